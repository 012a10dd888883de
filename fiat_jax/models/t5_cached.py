"""An encoder–decoder that decodes: layers one by one over unstacked weights, with what was computed before kept.

Shapes: B batch, S source, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.models import adapters, attention
from fiat_jax.models.attention import KV
from fiat_jax.models.t5 import T5, DecoderLayer, EncoderLayer, position_bias
from fiat_jax.models.unstacked import slices

STACKS = ("encoder", "decoder")
Weights = Mapping[str, Any]
Array = jax.Array | np.ndarray


def unstack(variables: Mapping[str, Any], *, consumes: bool = False) -> dict[str, Any]:
  """One tree a layer of each stack instead of stacked leaves. Copies each layer's slice.

  `consumes`: as of `slices`.
  """
  params = variables["params"]
  weights: dict[str, Any] = {"outer": {name: leaf for name, leaf in params.items() if name not in STACKS}}
  for stack in STACKS:
    weights["outer"][stack] = {name: leaf for name, leaf in params[stack].items() if name != "layers"}
    weights[stack] = [{"params": layer} for layer in _slices(params[stack]["layers"], consumes=consumes)]
  return with_adapter(weights, variables["lora"]) if variables.get("lora") else weights


def with_adapter(weights: Weights, adapter: Mapping[str, Any]) -> dict[str, Any]:
  """Unstacked weights with a (stacked) adapter beside them, in one stack or both; the base is shared, not copied."""
  if adapters.PROMPT in adapter:
    return {**weights, adapters.PROMPT: adapter[adapters.PROMPT]}
  adapted = dict(weights)
  for stack in STACKS:
    if stack in adapter:
      pairs = zip(weights[stack], _slices(adapter[stack]["layers"]), strict=True)
      adapted[stack] = [{**layer, "lora": lora} for layer, lora in pairs]
  return adapted


def _slices(stacked: Mapping[str, Any], *, consumes: bool = False) -> list[dict[str, Any]]:
  return slices(stacked, jax.tree.leaves(stacked)[0].shape[0], consumes=consumes)


def encode(model: T5, weights: Weights, tokens: jax.Array, lengths: Array) -> jax.Array:
  """Encoder states [B, S, D] of tokens [B, S], of which a row's first `lengths` [B] count."""
  c, outer = model.config, weights["outer"]["encoder"]
  places = jnp.arange(tokens.shape[1])[None]
  mask = (places < lengths[:, None])[:, None]
  bias = position_bias(c, outer["relative_bias"], places, places, True)
  layer = EncoderLayer(c, model.lora)
  x = adapters.put_prompt(_embed(model, weights, tokens), tokens, weights.get(adapters.PROMPT))
  for layer_weights in weights["encoder"]:
    x, _ = layer.apply(layer_weights, x, mask, bias)
  return _final_norm(model, outer, x)


def cross(model: T5, weights: Weights, encoded: jax.Array) -> list[KV]:
  """The keys and values of encoder states [B, S, D] in every layer of the decoder: once a request."""
  layer: Any = DecoderLayer(model.config, model.lora)
  return [layer.apply(layer_weights, encoded, method="cross") for layer_weights in weights["decoder"]]


def cached_hidden(
  model: T5,
  weights: Weights,
  tokens: jax.Array,
  positions: jax.Array,
  mask: jax.Array,
  cross: Sequence[KV],
  lengths: Array,
  cache: Sequence[KV] | None = None,
) -> tuple[jax.Array, list[KV]]:
  """Decoder states [B, T, D] of new tokens, and every layer's own keys and values.

  Args:
    tokens, positions: [B, T]; with a cache, positions are also where in it the tokens go.
    mask: [B, T, S] over the cache, or [B, T, T].
    cross: a `KV` a layer, of the encoder.
    lengths: [B], how many source places of each row count.
    cache: a `KV` a layer, of the decoder's tokens so far; without it, the new tokens see one another alone.
  """
  c, outer = model.config, weights["outer"]["decoder"]
  keys = jnp.arange(cache[0].v.shape[2])[None] if cache else positions
  cross_mask = (jnp.arange(cross[0].v.shape[2])[None] < lengths[:, None])[:, None]
  bias = position_bias(c, outer["relative_bias"], positions, keys, False)
  layer: Any = DecoderLayer(c, model.lora)
  x, filled = _embed(model, weights, tokens), []
  for number, (layer_weights, source) in enumerate(zip(weights["decoder"], cross, strict=True)):
    kv = layer.apply(layer_weights, x, method="new")
    kv = attention.write(cache[number], kv, positions) if cache else kv
    x = layer.apply(layer_weights, x, kv, mask, bias, source, cross_mask, method="finish")
    filled.append(kv)
  return _final_norm(model, outer, x), filled


def logits(model: T5, weights: Weights, hidden: jax.Array) -> jax.Array:
  """Logits [..., V] of decoder states [..., D], from unstacked weights."""
  found: Any = model.apply({"params": weights["outer"]}, hidden, method="logits")
  return found


def _embed(model: T5, weights: Weights, tokens: jax.Array) -> jax.Array:
  found: Any = model.apply({"params": weights["outer"]}, tokens, method="embed")
  return found


def _final_norm(model: T5, outer: Weights, x: jax.Array) -> jax.Array:
  found: Any = model.config.norm().apply({"params": outer["final_norm"]}, x)
  return found
