"""The pieces that every model family shares. Shapes: B batch, S or T sequence, D width, H heads, K key-value heads."""

from __future__ import annotations

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from fiat_jax.models.lora import LoraConfig

ACTIVATIONS = {"silu": nn.silu, "gelu_tanh": nn.gelu}


class Linear(nn.Module):
  """x · W, and x · A · B on top where the collection `lora` holds `a` and `b` for this layer.

  Dropout acts on the adapter's input alone, and only while a `dropout` random key is given.
  """

  features: int
  axes: tuple[str, str]
  dtype: jnp.dtype
  lora: LoraConfig | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    init = nn.with_logical_partitioning(nn.initializers.lecun_normal(), self.axes)
    kernel: Any = self.param("kernel", init, (x.shape[-1], self.features), jnp.float32)
    y = x @ kernel.astype(self.dtype)
    if self.lora is None or not self.has_variable("lora", "a"):
      return y
    a = self.get_variable("lora", "a").astype(self.dtype)
    b = self.get_variable("lora", "b").astype(self.dtype)
    if self.lora.dropout and self.has_rng("dropout"):
      x = nn.Dropout(self.lora.dropout, deterministic=False)(x)
    return y + (x @ a) @ b * self.lora.scale


class RMSNorm(nn.Module):
  """x / rms(x) · scale, computed in f32 at the least."""

  epsilon: float
  dtype: jnp.dtype

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    init = nn.with_logical_partitioning(nn.initializers.ones_init(), ("norm",))
    scale: Any = self.param("scale", init, (x.shape[-1],), jnp.float32)
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    x = x * jax.lax.rsqrt(jnp.mean(jnp.square(x), axis=-1, keepdims=True) + self.epsilon)
    return (x * scale).astype(self.dtype)


class GatedFFN(nn.Module):
  """down(activation(gate(x)) · up(x))."""

  width: int
  dtype: jnp.dtype
  lora: LoraConfig | None = None
  activation: Literal["silu", "gelu_tanh"] = "silu"

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    gate = Linear(self.width, ("embed", "mlp"), self.dtype, self.lora, name="gate")(x)
    up = Linear(self.width, ("embed", "mlp"), self.dtype, self.lora, name="up")(x)
    hidden = ACTIVATIONS[self.activation](gate) * up
    return Linear(x.shape[-1], ("mlp", "embed"), self.dtype, self.lora, name="down")(hidden)


def rotary_angles(positions: jax.Array, head_dim: int, theta: float) -> tuple[jax.Array, jax.Array]:
  """Cosines and sines [B, S, head_dim / 2] for rotary embedding (Su et al., 2021) of integer positions [B, S]."""
  frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
  angles = positions[..., None].astype(jnp.float32) * frequencies
  return jnp.cos(angles), jnp.sin(angles)


def rotate(x: jax.Array, rotary: tuple[jax.Array, jax.Array]) -> jax.Array:
  """Rotary embedding of x [B, S, heads, head_dim] in the half-split layout, in f32."""
  cos, sin = (part[:, :, None, :] for part in rotary)
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)
