"""The decoder-only family (Llama and kin). Training scans stacked layers; decoding walks the same layers one by one."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fiat_jax.models import attention, layers, neftune
from fiat_jax.models.attention import KV, attend, segment_mask
from fiat_jax.models.lora import LoraConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """A decoder-only model's shape; widths in units, `max_length` in tokens."""

  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  ffn_width: int
  max_length: int
  rope_theta: float = 10_000.0
  norm_epsilon: float = 1e-5
  tied_head: bool = False
  dtype: str = "float32"

  @property
  def compute_dtype(self) -> jnp.dtype:
    return jnp.dtype(self.dtype)


class Attention(nn.Module):
  """Causal self-attention over the new tokens, and what stands before them in a prefix or in a cache.

  A cache is written to; what is returned for a prefix is the new tokens' part alone.
  """

  config: DecoderConfig
  lora: LoraConfig | None = None

  @nn.compact
  def __call__(self, x, rotary, mask, cache=None, write=None, prefix=None):
    c = self.config

    def project(name: str, heads: int, axis: str) -> jax.Array:
      y = layers.Linear(heads * c.head_dim, ("embed", axis), c.compute_dtype, self.lora, name=name)(x)
      return y.reshape(*y.shape[:2], heads, c.head_dim)

    q = layers.rotate(project("query", c.heads, "heads"), rotary)
    k = layers.rotate(project("key", c.kv_heads, "kv"), rotary)
    v = project("value", c.kv_heads, "kv")
    kv = KV(k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3))
    if cache is not None and write is not None:
      kv = attention.write(cache, kv, write)
    alone = cache is None and prefix is None
    out = attend(q, attention.after(prefix, kv), mask, causal=alone)
    return layers.Linear(c.width, ("heads", "embed"), c.compute_dtype, self.lora, name="out")(out), kv


class Layer(nn.Module):
  """One transformer layer; returns the new hidden states and, where asked to, this layer's keys and values."""

  config: DecoderConfig
  lora: LoraConfig | None = None
  returns_kv: bool = False

  @nn.compact
  def __call__(
    self, x, rotary, mask, cache: KV | None = None, write: jax.Array | None = None, prefix: KV | None = None
  ):
    c = self.config
    y = layers.RMSNorm(c.norm_epsilon, c.compute_dtype, name="attention_norm")(x)
    y, kv = Attention(c, self.lora, name="attention")(y, rotary, mask, cache, write, prefix)
    x = x + y
    y = layers.RMSNorm(c.norm_epsilon, c.compute_dtype, name="ffn_norm")(x)
    x = x + layers.GatedFFN(c.ffn_width, c.compute_dtype, self.lora, name="ffn")(y)
    return x, (kv if self.returns_kv else None)


class Decoder(nn.Module):
  """The whole model over stacked layers, as training sees it; `neftune` acts only while a key of that name is given."""

  config: DecoderConfig
  lora: LoraConfig | None = None
  remat: bool = False
  neftune: float = 0.0

  def setup(self):
    c = self.config
    init = nn.with_logical_partitioning(nn.initializers.normal(0.02), ("vocab", "embed"))
    self.embedding: Any = self.param("embedding", init, (c.vocab_size, c.width), jnp.float32)
    layer = nn.remat(Layer, prevent_cse=False) if self.remat else Layer
    self.layers = nn.scan(
      layer,
      variable_axes={"params": 0, "lora": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]  flax takes it for every argument at once
      length=c.layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )(c, self.lora, name="layers")
    self.final_norm = layers.RMSNorm(c.norm_epsilon, c.compute_dtype)
    self.head = None if c.tied_head else layers.Linear(c.vocab_size, ("embed", "vocab"), c.compute_dtype)

  def __call__(self, tokens: jax.Array, positions: jax.Array, segments: jax.Array) -> jax.Array:
    """Hidden states [B, S, D] after the final norm, for tokens, positions and segments [B, S] (packed or padded)."""
    c = self.config
    x = jnp.take(self.embedding, tokens, axis=0).astype(c.compute_dtype)
    if self.neftune and self.has_rng("neftune"):
      x = neftune.add_noise(self.make_rng("neftune"), x, segments, self.neftune)
    rotary = layers.rotary_angles(positions, c.head_dim, c.rope_theta)
    x, _ = self.layers(x, rotary, segment_mask(segments))
    return self.final_norm(x)

  def logits(self, hidden: jax.Array) -> jax.Array:
    """f32 logits [..., V] of hidden states [..., D]."""
    if self.head is None:
      return jnp.matmul(hidden, self.embedding.T.astype(hidden.dtype), preferred_element_type=jnp.float32)
    return self.head(hidden).astype(jnp.float32)

  def target_logits(self, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Logits [B, T, V] at the positions that predict a target token, and at no others.

    `batch` holds `tokens, positions, segments` [B, S] and `target_index` [B, T], the position before each target token.
    """
    hidden = self(batch["tokens"], batch["positions"], batch["segments"])
    return self.logits(jnp.take_along_axis(hidden, batch["target_index"][:, :, None], axis=1))

  def init_all(self, tokens, positions, segments):
    return self.logits(self(tokens, positions, segments))


def unstack(variables: Mapping[str, Any], count: int) -> dict[str, Any]:
  """One tree a layer instead of stacked leaves: what `cached_hidden` walks over. Copies each layer's slice."""
  params = variables["params"]
  outer = {name: leaf for name, leaf in params.items() if name != "layers"}
  weights = {"outer": outer, "layers": [{"params": layer} for layer in _slices(params["layers"], count)]}
  return with_adapter(weights, variables["lora"]) if variables.get("lora") else weights


def with_adapter(weights: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, Any]:
  """Unstacked weights with a (stacked) adapter beside them; the base is shared, not copied."""
  slices = _slices(adapter["layers"], len(weights["layers"]))
  layers_ = [{**layer, "lora": lora} for layer, lora in zip(weights["layers"], slices, strict=True)]
  return {"outer": weights["outer"], "layers": layers_}


def _slices(stacked: Mapping[str, Any], count: int) -> list[Any]:
  return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]


def cached_hidden(
  model: Decoder,
  weights: Mapping[str, Any],
  tokens: jax.Array,
  positions: jax.Array,
  mask: jax.Array,
  cache: Sequence[KV] | None = None,
  write: jax.Array | None = None,
  prefix: Sequence[KV] | None = None,
) -> tuple[jax.Array, list[KV]]:
  """Hidden states [B, T, D] of new tokens, and every layer's keys and values.

  Args:
    model: gives configuration and LoRA scale.
    weights: from `unstack`.
    tokens, positions: [B, T].
    mask: [B, T, S] over the cache, [B, T, P + T] over a prefix of P tokens and the new ones, or [B, T, T].
    cache: a `KV` a layer; without it, the new tokens see one another alone and the result is a fresh cache.
    write: [B, T], where in the cache each new token goes.
    prefix: a `KV` a layer of P tokens that stand before the new ones.
  """
  c = model.config
  layer = Layer(c, model.lora, returns_kv=True)
  x = jnp.take(weights["outer"]["embedding"], tokens, axis=0).astype(c.compute_dtype)
  rotary = layers.rotary_angles(positions, c.head_dim, c.rope_theta)
  filled = []
  for number, layer_weights in enumerate(weights["layers"]):
    own, before = (cache[number] if cache else None), (prefix[number] if prefix else None)
    x, kv = layer.apply(layer_weights, x, rotary, mask, own, write, before)
    filled.append(kv)
  norm = layers.RMSNorm(c.norm_epsilon, c.compute_dtype)
  hidden: Any = norm.apply({"params": weights["outer"]["final_norm"]}, x)
  return hidden, filled


def cached_logits(model: Decoder, weights: Mapping[str, Any], hidden: jax.Array) -> jax.Array:
  """f32 logits [..., V] of hidden states [..., D], from unstacked weights."""
  logits: Any = model.apply({"params": weights["outer"]}, hidden, method="logits")
  return logits
