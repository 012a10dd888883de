"""A decoder-only model's shape, and what its layers differ in. Reading it from a checkpoint is in `families.py`."""

from __future__ import annotations

import dataclasses
from typing import Literal

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rotary:
  """Rotary embedding (Su et al., 2021): base `theta`, and what each of the head_dim / 2 frequencies is divided by."""

  theta: float = 10_000.0
  divisors: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerKind:
  """What sets layers of one model apart: how positions turn (None: not at all), how many tokens back a query sees.

  A query sees itself and the `window` - 1 tokens before it.
  """

  rotary: Rotary | None = Rotary()
  window: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class DecoderConfig:
  """A decoder-only model's shape; widths in units, `max_length` in tokens.

  Attributes:
    kinds: one a layer, or one for all.
    qkv_bias, out_bias, ffn_bias: which projections add a bias.
    qk_norms: whether each head's query and key are normalised before they turn.
    post_norms: whether what attention and FFN give is normalised before it is added.
    unit_offset: whether norms scale by 1 + scale.
    scaled_embedding: whether embeddings are multiplied by √width.
    query_scale: what scores are multiplied by, where it is not 1 / √head_dim.
    attention_softcap, logit_softcap: c in c · tanh(x / c), of scores and of logits.
    stem: where a checkpoint keeps embedding, layers and last norm.
  """

  vocab_size: int
  width: int
  layers: int
  heads: int
  kv_heads: int
  head_dim: int
  ffn_width: int
  max_length: int
  kinds: tuple[LayerKind, ...] = (LayerKind(),)
  norm_epsilon: float = 1e-5
  tied_head: bool = False
  activation: Literal["silu", "gelu_tanh"] = "silu"
  qkv_bias: bool = False
  out_bias: bool = False
  ffn_bias: bool = False
  qk_norms: bool = False
  post_norms: bool = False
  unit_offset: bool = False
  scaled_embedding: bool = False
  query_scale: float | None = None
  attention_softcap: float | None = None
  logit_softcap: float | None = None
  stem: str = "model"
  dtype: str = "float32"

  @property
  def compute_dtype(self) -> jnp.dtype:
    return jnp.dtype(self.dtype)

  @property
  def layer_kinds(self) -> tuple[LayerKind, ...]:
    """The kind of each layer."""
    return self.kinds if len(self.kinds) == self.layers else self.kinds * self.layers

  @property
  def distinct_kinds(self) -> tuple[LayerKind, ...]:
    """The kinds that occur, in the order in which they first do."""
    return tuple(dict.fromkeys(self.kinds))
