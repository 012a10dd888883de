"""The pieces that every model family shares. Shapes: B batch, S or T sequence, D width, H heads, K key-value heads."""

from __future__ import annotations

import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from fiat_jax import sharding
from fiat_jax.models import adapters, quantized
from fiat_jax.models.attention import Array
from fiat_jax.models.bf16 import linear
from fiat_jax.models.config import Rotary
from fiat_jax.models.lora import LoraConfig

ACTIVATIONS = {"silu": nn.silu, "gelu_tanh": nn.gelu}


class Linear(nn.Module):
  """x · W, plus a bias if asked for, and what the collection `lora` holds for this layer (`adapters.py`) on top.

  W may be quantized (`quantized.py`). Dropout acts on the adapter's input alone, and only while a `dropout` random key
  is given. The collection `lora_scale` holds a scale of this layer's own, where it has one.
  """

  features: int
  axes: tuple[str, str]
  dtype: jnp.dtype
  lora: LoraConfig | None = None
  bias: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), self.axes)
    kernel: Any = self.param("kernel", init, (x.shape[-1], self.features), jnp.float32)
    held = self._held()
    if "in_scale" in held:
      x = x * held["in_scale"].astype(self.dtype)
    y = quantized.product(x, kernel, self.dtype)
    more = self._low_rank(x, y, kernel, held) if "a" in held else None
    if self.bias:
      zeros = nn.with_logical_partitioning(nn.initializers.zeros_init(), self.axes[1:])
      bias: Any = self.param("bias", zeros, (self.features,), jnp.float32)
      y = y + bias.astype(self.dtype)
    y = y if more is None else y + more
    return y * held["out_scale"].astype(self.dtype) if "out_scale" in held else y

  def _held(self) -> dict[str, jax.Array]:
    """What the adapter holds for this layer."""
    if self.lora is None:
      return {}
    return {name: self.get_variable("lora", name) for name in adapters.LEAVES if self.has_variable("lora", name)}

  def _low_rank(self, x: jax.Array, y: jax.Array, kernel: Any, held: dict[str, jax.Array]) -> jax.Array:
    """What A and B, and DoRA's magnitudes where there are some, add to y = x · W."""
    assert self.lora is not None, "an adapter has a configuration"
    scale = self.lora.scale
    if self.has_variable("lora_scale", "scale"):
      scale = self.get_variable("lora_scale", "scale")
    dropped = bool(self.lora.dropout) and self.has_rng("dropout")
    if dropped:
      x = nn.Dropout(self.lora.dropout, deterministic=False)(x)
    a, b = held["a"].astype(self.dtype), held["b"].astype(self.dtype)
    more = linear(linear(x, a), b) * jnp.asarray(scale, self.dtype)
    if "gain" in held:
      return (held["gain"] - 1).astype(self.dtype) * y + more
    if "magnitude" not in held:
      return more
    whole = quantized.whole(kernel, jnp.float32) if quantized.is_quantized(kernel) else kernel
    gain = adapters.gain(whole, held, scale)
    base = quantized.product(x, kernel, self.dtype) if dropped else y
    return (gain - 1).astype(self.dtype) * base + gain.astype(self.dtype) * more


class Head(nn.Module):
  """Logits [..., V] of hidden states [..., D] by a kernel of its own, in `dtype`: rounded to no narrower one."""

  vocab_size: int

  @nn.compact
  def __call__(self, hidden: jax.Array, dtype: jnp.dtype | type) -> jax.Array:
    init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), ("embed", "vocab"))
    kernel: Any = self.param("kernel", init, (hidden.shape[-1], self.vocab_size), jnp.float32)
    return jnp.matmul(hidden, kernel.astype(hidden.dtype), preferred_element_type=dtype)


class RMSNorm(nn.Module):
  """x / rms(x) · scale, or · (1 + scale) with `unit_offset`, over the last axis, in f32 at the least."""

  epsilon: float
  dtype: jnp.dtype
  unit_offset: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    one = nn.initializers.zeros_init() if self.unit_offset else nn.initializers.ones_init()
    init = nn.with_logical_partitioning(one, ("norm",))
    scale: Any = self.param("scale", init, (x.shape[-1],), jnp.float32)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.epsilon)
    if self.unit_offset:
      scale = 1.0 + scale.astype(jnp.float32)
    return (x * scale).astype(self.dtype)


class GatedFFN(nn.Module):
  """down(activation(gate(x)) · up(x))."""

  width: int
  dtype: jnp.dtype
  lora: LoraConfig | None = None
  bias: bool = False
  activation: Literal["silu", "gelu_tanh"] = "silu"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    gate = Linear(self.width, ("embed", "mlp"), self.dtype, self.lora, self.bias, name="gate")(x)
    up = Linear(self.width, ("embed", "mlp"), self.dtype, self.lora, self.bias, name="up")(x)
    hidden = ACTIVATIONS[self.activation](gate) * up
    return Linear(x.shape[-1], ("mlp", "embed"), self.dtype, self.lora, self.bias, name="down")(hidden)


def rotary_angles(positions: Array, head_dim: int, rotary: Rotary) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines [B, S, head_dim / 2] for rotary embedding (Su et al., 2021) of integer positions [B, S]."""
  frequencies = rotary.theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
  if rotary.divisors:
    frequencies = frequencies / jnp.asarray(rotary.divisors, jnp.float32)
  angles = positions[..., None].astype(jnp.float32) * frequencies
  return jnp.cos(angles), jnp.sin(angles)


def looked_up(positions: Array, head_dim: int, rotary: Rotary, count: int) -> tuple[jax.Array, jax.Array]:
  """The same of positions below `count`, read from a table that is a constant of the program.

  Where layers follow one another unrolled, XLA would compute cosines again in each of them, for every head.
  """
  cos, sin = _table(head_dim, rotary, count)
  if isinstance(positions, np.ndarray):
    return jnp.asarray(cos[positions]), jnp.asarray(sin[positions])
  return jnp.take(cos, positions, axis=0, mode="clip"), jnp.take(sin, positions, axis=0, mode="clip")


@functools.lru_cache(maxsize=8)
def _table(head_dim: int, rotary: Rotary, count: int) -> tuple[np.ndarray, np.ndarray]:
  with jax.ensure_compile_time_eval():
    cos, sin = rotary_angles(jnp.arange(count), head_dim, rotary)
  return np.asarray(cos), np.asarray(sin)


def rotate(x: jax.Array, rotary: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Rotary embedding of x [B, S, heads, head_dim] in the half-split layout, in f32."""
  cos, sin = (part[:, :, None, :] for part in rotary)
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def tied_logits(hidden: jax.Array, embedding: jax.Array, dtype: jnp.dtype | type) -> jax.Array:
  """Logits [..., V] of hidden states [..., D] by the embedding [V, D], which is their head, too."""
  kernel = embedding.astype(hidden.dtype)
  if hidden.ndim == 2 and sharding.platform() == "cpu":  # of a token a row a third faster this way around
    turned = jax.lax.dot_general(kernel, hidden, (((1,), (1,)), ((), ())), preferred_element_type=dtype)
    return jax.lax.optimization_barrier(turned).T  # without it XLA turns it back
  return jnp.matmul(hidden, kernel.T, preferred_element_type=dtype)


def softcap(x: jax.Array, cap: float | None) -> jax.Array:
  """cap · tanh(x / cap), or x where there is no cap."""
  return x if cap is None else cap * jnp.tanh(x / cap)
