"""The encoder–decoder family (T5 1.0, 1.1, Flan-T5, mT5, mT0), over stacked layers, as training sees it.

Decoding walks the same layers one by one: `t5_cached.py`. Shapes: B batch, S source, T target, D width, V vocabulary.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from fiat_jax import sharding
from fiat_jax.models import adapters, layers, neftune, relative, remat
from fiat_jax.models.attention import KV, segment_mask
from fiat_jax.models.bf16 import take
from fiat_jax.models.lora import LoraConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class T5Config:
  """An encoder–decoder's shape; widths in units.

  Attributes:
    gated: T5 1.1's FFN, gelu(gate) · up; without it, T5 1.0's relu(up).
    tied_head: T5 1.0's head: the embedding, on hidden states scaled by width^-0.5.
    start_id: what the decoder reads first.
  """

  vocab_size: int
  width: int
  encoder_layers: int
  decoder_layers: int
  heads: int
  head_dim: int
  ffn_width: int
  gated: bool = True
  tied_head: bool = False
  buckets: int = 32
  max_distance: int = 128
  norm_epsilon: float = 1e-6
  start_id: int = 0
  dtype: str = "float32"

  @property
  def compute_dtype(self) -> jnp.dtype:
    return jnp.dtype(self.dtype)

  def norm(self) -> layers.RMSNorm:
    return layers.RMSNorm(self.norm_epsilon, self.compute_dtype)


class Attention(nn.Module):
  """Queries from x; keys and values from x itself, from the encoder, or kept from before."""

  config: T5Config
  lora: LoraConfig | None = None

  def setup(self):
    c = self.config
    inner = c.heads * c.head_dim
    project = lambda: layers.Linear(inner, ("embed", "heads"), c.compute_dtype, self.lora)  # noqa: E731
    self.query, self.key, self.value = project(), project(), project()
    self.out = layers.Linear(c.width, ("heads", "embed"), c.compute_dtype, self.lora)

  def __call__(self, x: jax.Array, kv: KV, mask: jax.Array, bias: jax.Array | None = None) -> jax.Array:
    return self.out(relative.attend(self._heads(self.query(x)), kv, mask, bias))

  def keys_values(self, x: jax.Array) -> KV:
    k, v = self._heads(self.key(x)), self._heads(self.value(x))
    return KV(k.transpose(0, 2, 3, 1), v.transpose(0, 2, 1, 3))

  def _heads(self, y: jax.Array) -> jax.Array:
    return y.reshape(*y.shape[:2], self.config.heads, self.config.head_dim)


class PlainFFN(nn.Module):
  """down(relu(up(x))): T5 1.0's."""

  width: int
  dtype: jnp.dtype
  lora: LoraConfig | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    up = layers.Linear(self.width, ("embed", "mlp"), self.dtype, self.lora, name="up")(x)
    return layers.Linear(x.shape[-1], ("mlp", "embed"), self.dtype, self.lora, name="down")(nn.relu(up))


def _ffn(c: T5Config, lora: LoraConfig | None) -> nn.Module:
  if c.gated:
    return layers.GatedFFN(c.ffn_width, c.compute_dtype, lora, activation="gelu_tanh")
  return PlainFFN(c.ffn_width, c.compute_dtype, lora)


class EncoderLayer(nn.Module):
  """Self-attention and FFN, each behind a norm and added to what came in."""

  config: T5Config
  lora: LoraConfig | None = None

  def setup(self):
    c = self.config
    self.attention_norm, self.ffn_norm = c.norm(), c.norm()
    self.attention = Attention(c, self.lora)
    self.ffn = _ffn(c, self.lora)

  def __call__(self, x: jax.Array, mask: jax.Array, bias: jax.Array) -> tuple[jax.Array, None]:
    x = sharding.constrain(x, "batch")
    y = self.attention_norm(x)
    x = x + self.attention(y, self.attention.keys_values(y), mask, bias)
    return x + self.ffn(self.ffn_norm(x)), None


class DecoderLayer(nn.Module):
  """Self-attention, cross-attention and FFN; `new` and `finish` are the halves that decoding calls apart."""

  config: T5Config
  lora: LoraConfig | None = None

  def setup(self):
    c = self.config
    self.self_attention_norm, self.cross_attention_norm, self.ffn_norm = c.norm(), c.norm(), c.norm()
    self.self_attention, self.cross_attention = Attention(c, self.lora), Attention(c, self.lora)
    self.ffn = _ffn(c, self.lora)

  def __call__(
    self, x: jax.Array, mask: jax.Array, bias: jax.Array, encoded: jax.Array, cross_mask: jax.Array
  ) -> tuple[jax.Array, None]:
    x = sharding.constrain(x, "batch")
    return self.finish(x, self.new(x), mask, bias, self.cross(encoded), cross_mask), None

  def new(self, x: jax.Array) -> KV:
    """The keys and values that x adds to self-attention."""
    return self.self_attention.keys_values(self.self_attention_norm(x))

  def cross(self, encoded: jax.Array) -> KV:
    """The encoder's keys and values, the same for every token of a request."""
    return self.cross_attention.keys_values(encoded)

  def finish(
    self, x: jax.Array, kv: KV, mask: jax.Array, bias: jax.Array, cross: KV, cross_mask: jax.Array
  ) -> jax.Array:
    x = x + self.self_attention(self.self_attention_norm(x), kv, mask, bias)
    x = x + self.cross_attention(self.cross_attention_norm(x), cross, cross_mask)
    return x + self.ffn(self.ffn_norm(x))


class Stack(nn.Module):
  """Encoder or decoder: layers that share one relative bias, and the final norm."""

  config: T5Config
  layer: type[nn.Module]
  count: int
  bidirectional: bool
  lora: LoraConfig | None = None
  remat: str = "none"

  def setup(self):
    c = self.config
    init = nn.with_logical_partitioning(nn.initializers.normal(0.02), ("heads", "buckets"))
    self.relative_bias: Any = self.param("relative_bias", init, (c.heads, c.buckets), jnp.float32)
    self.layers = nn.scan(
      remat.wrapped(self.layer, self.remat),
      variable_axes={"params": 0, "lora": 0, "lora_scale": 0},
      split_rngs={"params": True, "dropout": True},
      in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]  flax takes it for every argument at once
      length=self.count,
      metadata_params={nn.PARTITION_NAME: "layers"},
    )(c, self.lora)  # pyright: ignore[reportCallIssue]
    self.final_norm = c.norm()

  def __call__(self, x: jax.Array, mask: jax.Array, *more: jax.Array) -> jax.Array:
    # A segment stands in one piece, so that places in the row differ as positions within the segment do.
    places = jnp.arange(x.shape[1])
    bias = position_bias(self.config, self.relative_bias, places[None], places[None], self.bidirectional)
    x, _ = self.layers(x, mask, bias, *more)
    return self.final_norm(x)


def position_bias(
  c: T5Config, relative_bias: jax.Array, queries: jax.Array, keys: jax.Array, bidirectional: bool
) -> jax.Array:
  """The bias [B, H, T, S] of a stack from its parameter [H, buckets] and positions [B, T] and [B, S]."""
  buckets = relative.relative_buckets(
    queries, keys, buckets=c.buckets, max_distance=c.max_distance, bidirectional=bidirectional
  )
  return jnp.take(relative_bias, buckets, axis=1).swapaxes(0, 1)


class T5(nn.Module):
  """The whole model. A batch holds tokens and segments [B, S] of the encoder and [B, T] of the decoder.

  Segment 0 is padding; the decoder's segment n reads the encoder's segment n. Each stands in one piece. `neftune` acts
  only while a key of that name is given, on what both stacks read.
  """

  config: T5Config
  lora: LoraConfig | None = None
  remat: str = "none"
  neftune: float = 0.0

  def setup(self):
    c = self.config
    init = nn.with_logical_partitioning(nn.initializers.normal(1.0), ("vocab", "embed"))
    self.embedding: Any = self.param("embedding", init, (c.vocab_size, c.width), jnp.float32)
    self.encoder = Stack(c, EncoderLayer, c.encoder_layers, True, self.lora, self.remat)
    self.decoder = Stack(c, DecoderLayer, c.decoder_layers, False, self.lora, self.remat)
    self.head = None if c.tied_head else layers.Head(c.vocab_size)

  def encode(self, tokens: jax.Array, segments: jax.Array) -> jax.Array:
    """Encoder states [B, S, D]."""
    mask = (segments[:, :, None] == segments[:, None, :]) & (segments[:, None, :] > 0)
    x = self._read(tokens, segments)
    if self.has_variable("lora", adapters.PROMPT):
      x = adapters.put_prompt(x, tokens, self.get_variable("lora", adapters.PROMPT))
    return self.encoder(x, mask)

  def __call__(self, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Decoder states [B, T, D] after the final norm."""
    source, target = batch["encoder_segments"], batch["decoder_segments"]
    encoded = self.encode(batch["encoder_tokens"], source)
    cross_mask = (target[:, :, None] == source[:, None, :]) & (source[:, None, :] > 0)
    x = self._read(batch["decoder_tokens"], target)
    return self.decoder(x, segment_mask(target), encoded, cross_mask)

  def embed(self, tokens: jax.Array) -> jax.Array:
    return _embed(self.config, self.embedding, tokens)

  def _read(self, tokens: jax.Array, segments: jax.Array) -> jax.Array:
    x = _embed(self.config, sharding.constrain(self.embedding, "vocab"), tokens)
    if self.neftune and self.has_rng("neftune"):
      x = neftune.add_noise(self.make_rng("neftune"), x, segments, self.neftune)
    return x

  def logits(self, hidden: jax.Array) -> jax.Array:
    """Logits [..., V], f32 at the least, of decoder states [..., D]."""
    wide = jnp.promote_types(hidden.dtype, jnp.float32)
    if self.head is None:
      hidden = (hidden.astype(wide) * self.config.width**-0.5).astype(hidden.dtype)
      return layers.tied_logits(hidden, self.embedding, wide)
    return self.head(hidden, wide)

  def target_logits(self, batch: Mapping[str, jax.Array]) -> jax.Array:
    """Logits [B, T, V]: every place of the decoder predicts a target token or is padding."""
    return self.logits(self(batch))

  def init_all(self, batch: Mapping[str, jax.Array]) -> jax.Array:
    return self.target_logits(batch)


def _embed(c: T5Config, embedding: jax.Array, tokens: jax.Array) -> jax.Array:
  return take(embedding, tokens).astype(c.compute_dtype)
