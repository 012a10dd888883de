"""Decoder-only models (Llama and kin). Training scans stacked layers; decoding walks the same layers one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fiat_jax import sharding
from fiat_jax.models import adapters, attention, fused, layers, neftune, remat
from fiat_jax.models.attention import KV, Array, attend, segment_mask
from fiat_jax.models.bf16 import take
from fiat_jax.models.config import DecoderConfig
from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.unstacked import slices
from fiat_jax.models.views import View, key_positions, stacked, views


def _norm(c: DecoderConfig, name: str | None = None) -> layers.RMSNorm:
  return layers.RMSNorm(c.norm_epsilon, c.compute_dtype, c.unit_offset, name=name)


class Attention(nn.Module):
  """Causal self-attention over the new tokens, and what stands before them in a cache, in a prefix, or in both.

  A cache is written to; a prefix is read alone. Whole rows may go through a fused kernel.
  """

  config: DecoderConfig
  lora: LoraConfig | None = None
  kernel: fused.Kernel = "plain"

  @nn.compact
  def __call__(self, x, view: View, cache=None, write=None, prefix=None):
    c = self.config

    def project(name: str, heads: int, axis: str) -> jax.Array:
      features = heads * c.head_dim
      y = layers.Linear(features, ("embed", axis), c.compute_dtype, self.lora, c.qkv_bias, name=name)(x)
      return y.reshape(*y.shape[:2], heads, c.head_dim)

    def placed(y: jax.Array, norm: str) -> jax.Array:
      if c.qk_norms:
        y = _norm(c, norm)(y)
      return y if view.rotary is None else layers.rotate(y, view.rotary)

    q = placed(project("query", c.heads, "heads"), "query_norm")
    k = placed(project("key", c.kv_heads, "kv"), "key_norm")
    v = project("value", c.kv_heads, "kv")
    kv = KV(k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3))
    if cache is not None and write is not None:
      kv = attention.write(cache, kv, write)
    alone = cache is None and prefix is None
    if alone and self.kernel == "splash" and view.segments is not None:
      out = fused.splash(q, k, v, view.segments, scale=c.query_scale, softcap=c.attention_softcap)
    elif alone and self.kernel == "cudnn":
      out = fused.cudnn(q, k, v, view.mask, scale=c.query_scale)
    else:
      out = attend(q, kv, view.mask, prefix=prefix, causal=alone, scale=c.query_scale, softcap=c.attention_softcap)
    out = layers.Linear(c.width, ("heads", "embed"), c.compute_dtype, self.lora, c.out_bias, name="out")(out)
    return out, kv


class Layer(nn.Module):
  """One transformer layer; returns the new hidden states and, where asked to, this layer's keys and values.

  `pick` is this layer's number among the stacked members of `view`; None where nothing is stacked.
  """

  config: DecoderConfig
  lora: LoraConfig | None = None
  returns_kv: bool = False
  kernel: fused.Kernel = "plain"

  @nn.compact
  def __call__(
    self,
    x: jax.Array,
    pick: jax.Array | None,
    view: View,
    cache: KV | None = None,
    write: jax.Array | None = None,
    prefix: KV | None = None,
  ):
    c = self.config
    if cache is None:  # whole rows; one step's few tokens lie as the cache does
      x = sharding.constrain(x, "batch")
    if pick is not None:
      view = jax.tree.map(lambda leaf: leaf[pick] if leaf.ndim == 4 else leaf, view)
    y = _norm(c, "attention_norm")(x)
    y, kv = Attention(c, self.lora, self.kernel, name="attention")(y, view, cache, write, prefix)
    x = x + (_norm(c, "attention_post_norm")(y) if c.post_norms else y)
    y = _norm(c, "ffn_norm")(x)
    y = layers.GatedFFN(c.ffn_width, c.compute_dtype, self.lora, c.ffn_bias, c.activation, name="ffn")(y)
    x = x + (_norm(c, "ffn_post_norm")(y) if c.post_norms else y)
    return x, (kv if self.returns_kv else None)


class Decoder(nn.Module):
  """The whole model over stacked layers, as training sees it; `neftune` acts only while a key of that name is given.

  `remat` and `kernel` say how the same numbers are come by: `remat.py`, `fused.py`.
  """

  config: DecoderConfig
  lora: LoraConfig | None = None
  remat: str = "none"
  neftune: float = 0.0
  kernel: fused.Kernel = "plain"

  def setup(self):
    c = self.config
    init = nn.with_logical_partitioning(nn.initializers.normal(0.02), ("vocab", "embed"))
    self.embedding: Any = self.param("embedding", init, (c.vocab_size, c.width), jnp.float32)
    self.layers = nn.scan(
      remat.wrapped(Layer, self.remat),
      variable_axes={"params": 0, "lora": 0, "lora_scale": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=(0, nn.broadcast),  # pyright: ignore[reportArgumentType]  flax takes more than integers
      length=c.layers,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )(c, self.lora, kernel=self.kernel, name="layers")
    self.final_norm = _norm(c)
    self.head = None if c.tied_head else layers.Head(c.vocab_size)

  def __call__(self, tokens: jax.Array, positions: jax.Array, segments: jax.Array) -> jax.Array:
    """Hidden states [B, S, D] after the final norm, for tokens, positions and segments [B, S] (packed or padded)."""
    c = self.config
    x = embed(c, sharding.constrain(self.embedding, "vocab"), tokens)
    if self.neftune and self.has_rng("neftune"):
      x = neftune.add_noise(self.make_rng("neftune"), x, segments, self.neftune)
    if self.has_variable("lora", adapters.PROMPT):
      x = adapters.put_prompt(x, tokens, self.get_variable("lora", adapters.PROMPT))
    pick, view = stacked(c, views(c, positions, segment_mask(segments), positions))
    if self.kernel == "splash" and fused.splash_takes(c, tokens.shape[1]):
      view = view._replace(segments=segments)
    x, _ = self.layers(x, pick, view)
    return self.final_norm(x)

  def logits(self, hidden: jax.Array) -> jax.Array:
    """f32 logits [..., V] of hidden states [..., D]."""
    if self.head is None:
      logits = layers.tied_logits(hidden, self.embedding, jnp.float32)
    else:
      logits = self.head(hidden, jnp.float32)
    return layers.softcap(logits, self.config.logit_softcap)

  def target_logits(self, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Logits [B, T, V] at the positions that predict a target token, and at no others.

    `batch` holds `tokens, positions, segments` [B, S] and `target_index` [B, T], the position before each target token.
    """
    hidden = self(batch["tokens"], batch["positions"], batch["segments"])
    return self.logits(jnp.take_along_axis(hidden, batch["target_index"][:, :, None], axis=1))

  def init_all(self, tokens, positions, segments):
    return self.logits(self(tokens, positions, segments))


def embed(c: DecoderConfig, embedding: jax.Array, tokens: jax.Array) -> jax.Array:
  """Embeddings [B, T, D] of tokens [B, T]."""
  x = take(embedding, tokens).astype(c.compute_dtype)
  return x * jnp.asarray(c.width**0.5, c.compute_dtype) if c.scaled_embedding else x


def unstack(variables: Mapping[str, Any], count: int, *, consumes: bool = False) -> dict[str, Any]:
  """One tree a layer instead of stacked leaves: what `cached_hidden` walks over. Copies each layer's slice.

  `consumes`: as of `slices`.
  """
  params = variables["params"]
  outer = {name: leaf for name, leaf in params.items() if name != "layers"}
  weights = {
    "outer": outer,
    "layers": [{"params": layer} for layer in slices(params["layers"], count, consumes=consumes)],
  }
  return with_adapter(weights, variables["lora"]) if variables.get("lora") else weights


def with_adapter(weights: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, Any]:
  """Unstacked weights with a (stacked) adapter beside them; the base is shared, not copied."""
  if adapters.PROMPT in adapter:
    return {**weights, adapters.PROMPT: adapter[adapters.PROMPT]}
  parts = slices(adapter["layers"], len(weights["layers"]))
  layers_ = [{**layer, "lora": lora} for layer, lora in zip(weights["layers"], parts, strict=True)]
  return {**weights, "layers": layers_}


def cached_hidden(
  model: Decoder,
  weights: Mapping[str, Any],
  tokens: jax.Array,
  positions: Array,
  mask: jax.Array,
  cache: Sequence[KV] | None = None,
  write: jax.Array | None = None,
  prefix: Sequence[KV] | None = None,
) -> tuple[jax.Array, list[KV]]:
  """Hidden states [B, T, D] of new tokens, and every layer's keys and values.

  Args:
    model: gives configuration and LoRA scale.
    weights: from `unstack`.
    tokens, positions: [B, T]; positions below the keys' number.
    mask: [B, T, P + S] over a prefix of P tokens and the cache, or [B, T, P + T] without a cache. Windows are taken out
      of it here.
    cache: a `KV` a layer, its places in the order of positions, the first of them right behind the prefix's tokens;
      without it, the new tokens see one another alone and the result is a fresh cache.
    write: [B, T], where in the cache each new token goes.
    prefix: a `KV` a layer, [1, …], of the tokens at positions from 0 of every row, padded to P; without it, P is 0.
  """
  c = model.config
  layer = Layer(c, model.lora, returns_kv=True)
  x = adapters.put_prompt(embed(c, weights["outer"]["embedding"], tokens), tokens, weights.get(adapters.PROMPT))
  keys = key_positions(positions, mask.shape[-1], cached=bool(cache))
  if cache and prefix and write is not None:  # the cache goes on where the prefix's tokens end, not its padding
    padded = prefix[0].v.shape[2]
    own = (positions - write)[:, :1] + jnp.arange(mask.shape[-1] - padded)[None]
    keys = jnp.concatenate([jnp.tile(keys[:, :padded], (len(own), 1)), own], axis=1)
  seen = views(c, positions, mask, keys, unrolled=True)
  filled = []
  for number, (kind, layer_weights) in enumerate(zip(c.layer_kinds, weights["layers"], strict=True)):
    own, before = (cache[number] if cache else None), (prefix[number] if prefix else None)
    x, kv = layer.apply(layer_weights, x, None, seen[kind], own, write, before)
    filled.append(kv)
  hidden: Any = _norm(c).apply({"params": weights["outer"]["final_norm"]}, x)
  return hidden, filled


def cached_logits(model: Decoder, weights: Mapping[str, Any], hidden: jax.Array) -> jax.Array:
  """f32 logits [..., V] of hidden states [..., D], from unstacked weights."""
  logits: Any = model.apply({"params": weights["outer"]}, hidden, method="logits")
  return logits
