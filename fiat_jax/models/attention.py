"""Grouped-query attention with f32 scores. Shapes: B batch, T queries, S keys, H heads, K key-value heads."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.models import bf16
from fiat_jax.models.bf16 import dot

Array = jax.Array | np.ndarray
MASKED = -1e9  # added to f32 scores; finite, so that a query that sees nothing stays free of NaN
BLOCK = 128  # queries at a time where attention is causal: later keys are not computed, scores stay in the cache


class KV(NamedTuple):
  """Keys [B, K, head_dim, S], as the scores' product wants them, and values [B, K, S, head_dim] of one layer."""

  k: jax.Array
  v: jax.Array


def attend(
  q: jax.Array,
  kv: KV,
  mask: jax.Array,
  *,
  prefix: KV | None = None,
  causal: bool = False,
  scale: float | None = None,
  softcap: float | None = None,
) -> jax.Array:
  """softmax(q · k / √head_dim) · v.

  Args:
    q: [B, T, H, head_dim].
    kv: keys and values; H is a multiple of K.
    mask: [B, T, S], true where a query may look; with a prefix [B, T, P + S].
    prefix: keys and values [1, K, …] of P tokens that stand before those of every row: read by all, copied for none.
    causal: promises that the mask lets no query see a later key (T = S): then the rest is not computed.
    scale: of the scores, in place of 1 / √head_dim.
    softcap: c, where scores s become c · tanh(s / c).

  Returns:
    [B, T, H · head_dim].
  """
  batch, length, heads, width = q.shape
  groups = heads // kv.k.shape[1]
  q = (
    (q * (width**-0.5 if scale is None else scale))
    .reshape(batch, length, heads // groups, groups, width)
    .transpose(0, 2, 3, 1, 4)
  )
  bias = jnp.where(mask, 0.0, MASKED)[:, None, None]
  if prefix is not None:
    out: Any = _attend_behind(q, prefix, kv, bias, softcap)
  elif not causal:
    out = _attend(q, kv.k, kv.v, bias, softcap)
  else:
    blocks = [(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK)]
    parts: list[Any] = [
      _attend(q[:, :, :, a:b], kv.k[..., :b], kv.v[:, :, :b], bias[:, :, :, a:b, :b], softcap) for a, b in blocks
    ]
    out = jnp.concatenate(parts, axis=3) if len(parts) > 1 else parts[0]
  return out.transpose(0, 3, 1, 2, 4).reshape(batch, length, heads * width)


def _attend_behind(q: jax.Array, prefix: KV, kv: KV, bias: jax.Array, softcap: float | None) -> jax.Array:
  """As `_attend`; bias [B, 1, 1, T, P + S]. All rows' queries meet the prefix in one product for each of its heads.

  Scores on the prefix and on the row's own are kept apart, and their sums added, as in a block-wise softmax.
  """
  batch, heads, groups, length, _ = q.shape
  places = prefix.v.shape[2]
  turned = lambda x: x.swapaxes(0, 1)  # noqa: E731  B and K, so that all rows of a head lie together
  rows = lambda x: x.reshape(batch, heads, groups * length, -1)  # noqa: E731
  together = lambda x: x.reshape(heads, batch * groups * length, -1)  # noqa: E731

  def scores(product: jax.Array, shape: tuple[int, ...], bias: jax.Array) -> jax.Array:
    product = product if softcap is None else softcap * jnp.tanh(product / softcap)
    return product.reshape(*shape, -1) + bias

  before = scores(dot(together(turned(q)), prefix.k[0]), turned(q).shape[:4], turned(bias[..., :places]))
  own = scores(dot(rows(q), kv.k), q.shape[:4], bias[..., places:])
  most = jnp.maximum(turned(before.max(axis=-1, keepdims=True)), own.max(axis=-1, keepdims=True))
  before, own = jnp.exp(before - turned(most)), jnp.exp(own - most)
  total = turned(before.sum(axis=-1, keepdims=True)) + own.sum(axis=-1, keepdims=True)
  out = turned(dot(together(before.astype(kv.v.dtype)), prefix.v[0]).reshape(turned(q).shape))
  return ((out + dot(rows(own.astype(kv.v.dtype)), kv.v).reshape(q.shape)) / total).astype(q.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: jax.Array, keys: jax.Array, v: jax.Array, bias: jax.Array, softcap: float | None) -> jax.Array:
  """Scaled q [B, K, G, T, D], keys [B, K, D, S], v [B, K, S, D], bias [B, 1, 1, T, S] → [B, K, G, T, D]."""
  return _forward(q, keys, v, bias, softcap)[0]


def _forward(q, keys, v, bias, softcap):
  batch, heads, groups, length, width = q.shape
  scores = dot(q.reshape(batch, heads, groups * length, width), keys)
  if softcap is not None:
    scores = softcap * jnp.tanh(scores / softcap)
  weights = jax.nn.softmax(scores.reshape(batch, heads, groups, length, -1) + bias, axis=-1)
  weights = weights.reshape(batch, heads, groups * length, -1)
  return dot(weights.astype(v.dtype), v).astype(q.dtype).reshape(q.shape), (q, keys, v, weights)


def _backward(softcap, saved, d_out):
  # Written out because the derived rule of softmax keeps and passes over several [T, S] arrays more: on a CPU it takes
  # twice the time. d_scores = weights · (d_weights − Σ d_weights · weights).
  q, keys, v, weights = saved
  batch, heads, groups, length, width = q.shape
  rows = q.reshape(batch, heads, groups * length, width)
  d_out = d_out.reshape(rows.shape)
  d_v = dot(weights.astype(v.dtype).mT, d_out).astype(v.dtype)
  d_weights = dot(d_out, v.mT)
  d_scores = weights * (d_weights - jnp.sum(d_weights * weights, axis=-1, keepdims=True))
  if softcap is not None:  # tanh' = 1 − tanh²; the scores are computed again rather than kept
    d_scores = d_scores * (1.0 - jnp.square(jnp.tanh(dot(rows, keys) / softcap)))
  d_scores = d_scores.astype(q.dtype)
  d_q = dot(d_scores, keys.mT).astype(q.dtype).reshape(q.shape)
  d_keys = dot(rows.mT, d_scores).astype(keys.dtype)
  return d_q, d_keys, d_v, None


_attend.defvjp(_forward, _backward)


def write(cache: KV, new: KV, places: jax.Array) -> KV:
  """`cache` with T new keys and values put at the places [B, T] along S."""
  if places.shape[1] == 1 and bf16.slow(cache.k.dtype):  # all is read anyhow, and a choice stays as narrow as it is
    here = places[:, None, None] == jnp.arange(cache.v.shape[2])
    return KV(jnp.where(here, new.k, cache.k), jnp.where(here.mT, new.v, cache.v))
  batch = jnp.arange(places.shape[0])[:, None]
  keys = cache.k.at[batch, :, :, places].set(new.k.transpose(0, 3, 1, 2))
  return KV(keys, cache.v.at[batch, :, places].set(new.v.transpose(0, 2, 1, 3)))


def segment_mask(segments: jax.Array) -> jax.Array:
  """Causal mask [B, S, S] for packed rows: a position sees itself and what stands before it in its own segment.

  Segment 0 is padding: it is seen by nothing.
  """
  length = segments.shape[1]
  same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, None, :] > 0)
  return same & jnp.tril(jnp.ones((length, length), bool))


def window_mask(mask: jax.Array, queries: Array, keys: Array, window: int | None) -> jax.Array:
  """`mask` [B, T, S] without what lies `window` positions or more before the query.

  Args:
    queries, keys: positions [B, T] and [B or 1, S], each below S, within the query's own segment.
    window: None for no limit.
  """
  if window is None or mask.shape[-1] <= window:
    return mask
  return mask & (queries[:, :, None] - keys[:, None, :] < window)
