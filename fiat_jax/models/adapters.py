"""Kinds of adapters: LoRA, DoRA, IA3 and soft prompts; their creation, and what each is to a kernel.

An adapter is the collection `lora` (`models/lora.py`). Beside a kernel [in, out] it holds

- `a` [in, rank] and `b` [rank, out]: LoRA;
- these and `magnitude` [out]: DoRA (Liu et al., 2024), W + ΔW with each column brought to this length;
- `in_scale` [in] or `out_scale` [out]: IA3 (Liu et al., 2022), which scales what goes in or comes out;
- `gain` [out], in decoding alone: DoRA's magnitudes by the columns' lengths, which do not change there;

and at its root, of a soft prompt (Lester et al., 2021), `prompt` [n, D]: embeddings that stand before every input.
Their places have the ids -1 to -n. Leaves of stacked layers have a first axis more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from fiat_jax.errors import UserError
from fiat_jax.models import lora, quantized
from fiat_jax.models.lora import LoraConfig, Tree

LEAVES = ("a", "b", "magnitude", "gain", "in_scale", "out_scale")
PROMPT = "prompt"
IA3_TARGETS = r".*attention/(key|value)|.*ffn/down"  # keys, values and the feed-forward's hidden states (§3.3)
IA3_INPUTS = "down"  # of this projection what goes in is scaled: the feed-forward's hidden states


def fresh(key: jax.Array, params: Tree, config: LoraConfig, *, embedding_scale: float = 1.0) -> dict[str, Any]:
  """A fresh adapter for `params`, with which the model is what it was, but for a soft prompt; f32.

  A is normal with variance 1 / in, B zero; magnitudes are the columns' lengths; scales are 1; a soft prompt begins as
  embeddings of tokens drawn from the vocabulary, times `embedding_scale`.

  Raises:
    UserError: `config.targets` matches no projection.
  """
  if config.kind == "prompt":
    rows = jax.random.randint(key, (config.prompt_tokens,), 0, params["embedding"].shape[0])
    return {PROMPT: jnp.take(params["embedding"], rows, axis=0).astype(jnp.float32) * embedding_scale}
  if config.kind == "ia3":
    return _init_ia3(params, config)
  adapter = lora.init_adapter(key, params, config)
  return _with_magnitudes(params, adapter) if config.kind == "dora" else adapter


def _init_ia3(params: Tree, config: LoraConfig) -> dict[str, Any]:
  adapter: dict[str, Any] = {}
  for path, kernel in lora.targeted(params, config):
    *stack, inputs, outputs = kernel.shape
    node = adapter
    for part in path.split("/"):
      node = node.setdefault(part, {})
    scales_input = path.endswith(IA3_INPUTS)
    node["in_scale" if scales_input else "out_scale"] = jnp.ones((*stack, inputs if scales_input else outputs))
  return adapter


def _with_magnitudes(params: Tree, adapter: Tree) -> dict[str, Any]:
  def add(node: Tree, kernel: Any) -> dict[str, Any]:
    return {**node, "magnitude": jnp.linalg.norm(_wide(kernel), axis=-2)}

  return _beside(params, adapter, add)


def _beside(params: Tree, adapter: Tree, change: Any) -> dict[str, Any]:
  """The adapter with `change(node, kernel)` in the place of what stands beside each kernel."""
  found = {}
  for name, node in adapter.items():
    if not isinstance(node, Mapping):
      found[name] = node
    elif is_node(node):
      found[name] = change(node, params[name]["kernel"])
    else:
      found[name] = _beside(params[name], node, change)
  return found


def is_node(node: Tree) -> bool:
  """Whether this is what an adapter holds beside one kernel."""
  return any(name in LEAVES and not isinstance(leaf, Mapping) for name, leaf in node.items())


def _wide(kernel: Any) -> jax.Array:
  return quantized.whole(kernel, jnp.float32) if quantized.is_quantized(kernel) else kernel.astype(jnp.float32)


def gain(kernel: jax.Array, held: Mapping[str, jax.Array], scale: Any) -> jax.Array:
  """DoRA's magnitudes by the lengths of the columns of W + scale · A · B, [..., out]; no gradient goes through these.

  The paper (§4.3) leaves them out of the gradient.
  """
  delta = scale * jnp.matmul(held["a"], held["b"], precision="highest")
  lengths = jnp.linalg.norm(kernel.astype(jnp.float32) + delta, axis=-2)
  return held["magnitude"] / jax.lax.stop_gradient(lengths)


def settled(params: Tree, adapter: Tree, config: LoraConfig, scales: Tree) -> dict[str, Any]:
  """The adapter as decoding applies it: scales of single layers in B, DoRA's magnitudes as gains.

  Args:
    params, adapter: over stacked layers.
    scales: `scale` [L] where layers have one of their own (the collection `lora_scale`); empty: none has.
  """
  adapter = _folded(adapter, scales, config.scale) if scales else dict(adapter)

  def settle(node: Tree, kernel: Any) -> dict[str, Any]:
    if "magnitude" not in node:
      return dict(node)
    found = gain(_wide(kernel), node, config.scale)
    return {"a": node["a"], "b": node["b"] * found[..., None, :], "gain": found}

  return _beside(params, adapter, settle)


def _folded(adapter: Tree, scales: Tree, scale: float) -> dict[str, Any]:
  found = {}
  for name, node in adapter.items():
    if not isinstance(node, Mapping) or name not in scales:
      found[name] = node
    elif "b" in node:
      found[name] = {**node, "b": node["b"] * (scales[name]["scale"] / scale)[:, None, None]}
    else:
      found[name] = _folded(node, scales[name], scale)
  return found


def merge(params: Tree, adapter: Tree, config: LoraConfig, scales: Tree | None = None) -> dict[str, Any]:
  """`params` with the adapter folded in, each kernel computed in f32 and rounded once to its type.

  Raises:
    UserError: the adapter is a soft prompt, which is no part of any weight.
  """
  if PROMPT in adapter:
    raise UserError("a soft prompt cannot be merged into weights: give --format peft (or orbax)")
  return _merged(params, settled(params, adapter, config, scales or {}), config.scale)


def _merged(params: Tree, adapter: Tree, scale: float) -> dict[str, Any]:
  merged = dict(params)
  for name, node in adapter.items():
    merged[name] = _merged_layer(params[name], node, scale) if is_node(node) else _merged(params[name], node, scale)
  return merged


def _merged_layer(layer: Tree, node: Tree, scale: float) -> dict[str, Any]:
  kernel = layer["kernel"]
  wide, found = kernel.astype(jnp.float32), dict(layer)
  if "gain" in node:
    wide = wide * node["gain"][..., None, :]
  if "a" in node:
    wide = wide + scale * jnp.matmul(node["a"], node["b"], precision="highest")
  if "in_scale" in node:
    wide = wide * node["in_scale"][..., :, None]
  if "out_scale" in node:
    wide = wide * node["out_scale"][..., None, :]
    if "bias" in layer:
      found["bias"] = (layer["bias"].astype(jnp.float32) * node["out_scale"]).astype(layer["bias"].dtype)
  return found | {"kernel": wide.astype(kernel.dtype)}


def put_prompt(x: jax.Array, tokens: jax.Array, prompt: jax.Array | None) -> jax.Array:
  """Embeddings x [B, T, D] of tokens [B, T], those of ids below 0 taken from a soft prompt [n, D]."""
  if prompt is None:
    return x
  places = jnp.take(prompt, jnp.clip(-1 - tokens, 0, len(prompt) - 1), axis=0)
  return jnp.where((tokens < 0)[..., None], places.astype(x.dtype), x)


def prompt_ids(count: int) -> tuple[int, ...]:
  """The ids of a soft prompt's places."""
  return tuple(range(-1, -1 - count, -1))
