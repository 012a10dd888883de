"""Decoder-only models in the engine: a prompt but for its last token goes into the cache.

What all prompts begin with is no part of the cache: it is computed once and read by every slot.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.decoding.family import Start, Weights, put_rows
from fiat_jax.decoding.label_rows import Row, Shared, chosen
from fiat_jax.decoding.lengths import bucket
from fiat_jax.decoding.sampling import Array
from fiat_jax.models import decoder
from fiat_jax.models.attention import KV
from fiat_jax.models.bf16 import moved


@dataclasses.dataclass(frozen=True)
class DecoderOnly:
  """A `Family`; the cache is a `KV` a layer of each slot's tokens behind what is shared."""

  model: decoder.Decoder

  def room(self, longest_prompt: int, longest_whole: int, longest_new: int) -> int:
    return -(-longest_whole // 64) * 64

  def empty(self, slots: int, room: int) -> list[KV]:
    c = self.model.config
    empty = lambda *shape: jnp.zeros((slots, c.kv_heads, *shape), c.compute_dtype)  # noqa: E731
    return [KV(empty(c.head_dim, room), empty(room, c.head_dim)) for _ in range(c.layers)]

  def share(self, weights: Weights, tokens: Sequence[int]) -> Shared:
    padded = np.zeros((1, bucket(len(tokens))), np.int32)
    padded[0, : len(tokens)] = tokens
    return Shared(_prefix(self.model, weights, padded), len(tokens))

  def start(self, tokens: Sequence[int], shared: int) -> Start:
    return Start(tokens[shared:-1], tokens[-1], len(tokens) - 1)

  def fill(
    self, weights: Weights, cache: list[KV], tokens: jax.Array, counts: Array, slots: Array, prefix: Shared | None
  ) -> list[KV]:
    count, room = tokens.shape[1], cache[0].v.shape[2]
    before, shared = _parts(prefix)
    mask = _behind(prefix, jnp.tril(jnp.ones((1, count, count), bool)))
    positions = before + np.arange(count)[None]
    _, filled = decoder.cached_hidden(self.model, weights, tokens, positions, mask, prefix=shared)
    filled = [KV(kv.k[..., :room], kv.v[:, :, :room]) for kv in filled]
    return jax.tree.map(functools.partial(put_rows, slots=slots), cache, filled)

  def step(
    self, weights: Weights, cache: list[KV], tokens: jax.Array, places: jax.Array, prefix: Shared | None
  ) -> tuple[jax.Array, list[KV]]:
    room = cache[0].v.shape[2]
    before, shared = _parts(prefix)
    write = jnp.clip(places - before, 0, room - 1)[:, None]
    mask = _behind(prefix, jnp.arange(room)[None, None, :] <= write[:, :, None])
    hidden, cache = decoder.cached_hidden(
      self.model, weights, tokens[:, None], before + write, mask, cache, write, prefix=shared
    )
    return decoder.cached_logits(self.model, weights, hidden[:, 0]), cache

  def reorder(
    self, cache: list[KV], sources: jax.Array, first: jax.Array, count: int, prefix: Shared | None
  ) -> list[KV]:
    # Of a long prompt and a short answer the answer alone is moved.
    start = jnp.clip(first - _parts(prefix)[0], 0, cache[0].v.shape[2] - count)
    along = lambda axis: functools.partial(_shuffled, sources=sources, start=start, count=count, axis=axis)  # noqa: E731
    return [KV(moved(along(2), kv.k), moved(along(1), kv.v)) for kv in cache]

  def label_logprobs(
    self,
    weights: Weights,
    prompt: Sequence[int],
    labels: Sequence[Sequence[int]],
    targets: np.ndarray,
    shared: Shared | None,
  ) -> jax.Array:
    # Prompt and labels in one row; the first token of each label is predicted at the prompt's last place.
    known = shared.length if shared else 0
    prompt = prompt[known:]
    start = len(prompt)
    row = Row.empty(bucket(start + sum(len(label) for label in labels)))
    row.put(0, prompt, known, 1)
    before = np.zeros_like(targets)
    place, filled = start, 0
    for number, label in enumerate(labels):
      n = len(label)
      row.put(place, label, known + start, number + 2)
      before[0, filled : filled + n] = [start - 1, *range(place, place + n - 1)]
      place, filled = place + n, filled + n
    return _logprobs(self.model, weights, *row, before, targets, shared)


def _shuffled(leaf: jax.Array, sources: jax.Array, start: jax.Array, count: int, axis: int) -> jax.Array:
  """`leaf` [B, …], of each row `count` places from `start` [B] on, along an axis of rows, taken from another row."""
  window = jax.vmap(lambda row, at: jax.lax.dynamic_slice_in_dim(row, at, count, axis))(leaf, start)
  put = lambda row, new, at: jax.lax.dynamic_update_slice_in_dim(row, new, at, axis)  # noqa: E731
  return jax.vmap(put)(leaf, window[sources], start)


def _parts(shared: Shared | None) -> tuple[Any, list[KV] | None]:
  """How many tokens are shared, and their keys and values, padded."""
  return (shared.length, shared.prefix) if shared else (0, None)


def _behind(shared: Shared | None, mask: jax.Array) -> jax.Array:
  """A mask [B, T, S] behind what is shared: all see that, and none what it is padded with."""
  if shared is None:
    return mask
  known = jnp.arange(shared.prefix[0].v.shape[2]) < shared.length
  return jnp.concatenate([jnp.broadcast_to(known, (*mask.shape[:2], len(known))), mask], axis=-1)


@functools.partial(jax.jit, static_argnums=0)
def _prefix(model: decoder.Decoder, weights: Weights, tokens: Any) -> list[KV]:
  """Keys and values of tokens [1, S] that all requests begin with, [1, …] a layer."""
  mask = jnp.tril(jnp.ones((1, tokens.shape[1], tokens.shape[1]), bool))
  return decoder.cached_hidden(model, weights, tokens, np.arange(tokens.shape[1])[None], mask)[1]


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(model, weights, tokens, positions, segments, before, targets, shared) -> jax.Array:
  own, seen = segments[:, :, None], segments[:, None, :]
  mask = (seen > 0) & ((seen == own) | (seen == 1)) & jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
  hidden, _ = decoder.cached_hidden(model, weights, tokens, positions, _behind(shared, mask), prefix=_parts(shared)[1])
  hidden = jnp.take_along_axis(hidden, before[:, :, None], axis=1)
  return chosen(decoder.cached_logits(model, weights, hidden), targets)
