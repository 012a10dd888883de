"""T5's attention: unscaled f32 scores plus a learned bias for each bucket of distances.

Shapes: B batch, T queries, S keys, H heads.

Where distances fall (Raffel et al., 2020, §2.1): one bucket each for near ones, ever wider ones up to a limit, one for
all beyond. Encoders have half of the buckets for what stands before a query, half for what stands after it.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.models.attention import KV, MASKED
from fiat_jax.models.bf16 import dot


@functools.lru_cache(maxsize=8)
def _bucket_of_distance(buckets: int, max_distance: int) -> np.ndarray:
  """The bucket of each distance 0 … max_distance, [max_distance + 1]; in whole numbers, so that no logarithm rounds."""
  near = buckets // 2
  wide = buckets - near
  limits = [max_distance**k * near**wide for k in range(1, wide)]
  far = [near + sum(d**wide * near**k >= limit for k, limit in enumerate(limits, 1)) for d in range(max_distance + 1)]
  return np.where(np.arange(max_distance + 1) < near, np.arange(max_distance + 1), far).astype(np.int32)


def relative_buckets(
  queries: jax.Array, keys: jax.Array, *, buckets: int, max_distance: int, bidirectional: bool
) -> jax.Array:
  """Buckets [..., T, S] of keys' positions [..., S] as seen from queries' positions [..., T]."""
  relative = keys[..., None, :] - queries[..., :, None]
  offset = jnp.zeros((), jnp.int32)
  if bidirectional:
    buckets //= 2
    offset = jnp.where(relative > 0, buckets, 0)
    distance = jnp.abs(relative)
  else:
    distance = jnp.maximum(-relative, 0)
  return offset + jnp.asarray(_bucket_of_distance(buckets, max_distance))[jnp.minimum(distance, max_distance)]


def attend(q: jax.Array, kv: KV, mask: jax.Array, bias: jax.Array | None = None) -> jax.Array:
  """softmax(q · k + bias) · v: T5 does not scale scores.

  Args:
    q: [B, T, H, head_dim].
    kv: keys and values of H heads.
    mask: [B, T, S] (T may be 1 for all queries), true where a query may look.
    bias: [B or 1, H, T, S].

  Returns:
    [B, T, H · head_dim].
  """
  batch, length, heads, width = q.shape
  wide = jnp.promote_types(q.dtype, jnp.float32)
  hidden = jnp.where(mask, 0.0, MASKED).astype(wide)[:, None]
  bias = jnp.zeros((1, 1, 1, 1), wide) if bias is None else bias.astype(wide)
  if length == 1:
    return _attend_one(q[:, 0].astype(wide), kv, (bias + hidden)[:, :, 0]).astype(q.dtype)
  out = _attend(q.transpose(0, 2, 1, 3), kv.k, kv.v, bias, hidden)
  return out.transpose(0, 2, 1, 3).reshape(batch, length, heads * width)


def _attend_one(q: jax.Array, kv: KV, bias: jax.Array) -> jax.Array:
  """One query a row, q [B, H, D] and bias as broad as [B, H, S] → [B, 1, H · D].

  Products and sums in place of matrix products, which with one row only read memory: on a CPU a third faster.
  """
  scores = jnp.sum(q[..., None] * kv.k.astype(q.dtype), axis=2) + bias
  weights = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
  out = jnp.sum(weights[..., None] * kv.v.astype(q.dtype), axis=2) / jnp.sum(weights, axis=-1)[..., None]
  return out.reshape(q.shape[0], 1, -1)


@jax.custom_vjp
def _attend(q: jax.Array, keys: jax.Array, v: jax.Array, bias: jax.Array, hidden: jax.Array) -> jax.Array:
  """q [B, H, T, D], keys [B, H, D, S], v [B, H, S, D], bias and hidden as broad as [B, H, T, S] → [B, H, T, D]."""
  return _forward(q, keys, v, bias, hidden)[0]


def _forward(q, keys, v, bias, hidden):
  weights = jax.nn.softmax(dot(q, keys) + (bias + hidden), axis=-1)
  return dot(weights.astype(v.dtype), v).astype(q.dtype), (q, keys, v, weights, bias.shape)


def _backward(saved, d_out):
  # Written out for the reason given in `attention.py`; the bias has a gradient too, which costs nothing while it is not
  # asked for.
  q, keys, v, weights, bias_shape = saved
  d_v = dot(weights.astype(v.dtype).mT, d_out).astype(v.dtype)
  d_weights = dot(d_out, v.mT)
  d_scores = weights * (d_weights - jnp.sum(d_weights * weights, axis=-1, keepdims=True))
  summed = tuple(axis for axis, size in enumerate(bias_shape) if size == 1)
  d_bias = jnp.sum(d_scores, axis=summed, keepdims=True)
  d_scores = d_scores.astype(q.dtype)
  d_q = dot(d_scores, keys.mT).astype(q.dtype)
  return d_q, dot(q.mT, d_scores).astype(keys.dtype), d_v, d_bias, None


_attend.defvjp(_forward, _backward)
