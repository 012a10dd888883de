"""Encoder–decoder models in the engine: the prompt is encoded once, its cross-attention's keys and values kept a slot.

An encoder's states depend on the whole input, so nothing of what prompts share can be kept.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.decoding.family import Start, Weights, put_rows
from fiat_jax.decoding.label_rows import Row, Shared, chosen
from fiat_jax.decoding.lengths import bucket
from fiat_jax.decoding.sampling import Array
from fiat_jax.models import t5_cached
from fiat_jax.models.attention import KV, segment_mask
from fiat_jax.models.bf16 import moved
from fiat_jax.models.t5 import T5


class Room(NamedTuple):
  """Places for the source and for new tokens."""

  source: int
  target: int


class Cache(NamedTuple):
  """A `KV` a layer of the decoder's own tokens, one of the encoder's states, and how many of these count, [B]."""

  own: list[KV]
  cross: list[KV]
  sources: jax.Array


@dataclasses.dataclass(frozen=True)
class EncoderDecoder:
  """A `Family` over T5."""

  model: T5

  def room(self, longest_prompt: int, longest_whole: int, longest_new: int) -> Room:
    return Room(bucket(longest_prompt), -(-longest_new // 64) * 64)

  def empty(self, slots: int, room: Room) -> Cache:
    c = self.model.config
    zeros = lambda *shape: jnp.zeros((slots, c.heads, *shape), c.compute_dtype)  # noqa: E731
    of = lambda length: [KV(zeros(c.head_dim, length), zeros(length, c.head_dim)) for _ in range(c.decoder_layers)]  # noqa: E731
    return Cache(of(room.target), of(room.source), jnp.zeros(slots, jnp.int32))

  def share(self, weights: Weights, tokens: Sequence[int]) -> None:
    return None

  def start(self, tokens: Sequence[int], shared: int) -> Start:
    return Start(tokens, self.model.config.start_id, 0)

  def fill(self, weights: Weights, cache: Cache, tokens: jax.Array, counts: Array, slots: Array, prefix: None) -> Cache:
    cross = t5_cached.cross(self.model, weights, t5_cached.encode(self.model, weights, tokens, counts))
    filled = jax.tree.map(functools.partial(put_rows, slots=slots), cache.cross, cross)
    return Cache(cache.own, filled, cache.sources.at[slots].set(counts))

  def step(
    self, weights: Weights, cache: Cache, tokens: jax.Array, places: jax.Array, prefix: None
  ) -> tuple[jax.Array, Cache]:
    room = cache.own[0].v.shape[2]
    write = jnp.minimum(places, room - 1)[:, None]
    mask = jnp.arange(room)[None, None, :] <= write[:, :, None]
    hidden, own = t5_cached.cached_hidden(
      self.model, weights, tokens[:, None], write, mask, cache.cross, cache.sources, cache.own
    )
    return t5_cached.logits(self.model, weights, hidden[:, 0]), cache._replace(own=own)

  def reorder(self, cache: Cache, sources: jax.Array, first: jax.Array, count: int, prefix: None) -> Cache:
    # What is kept of the prompt is the same in all of its slots.
    return cache._replace(own=jax.tree.map(functools.partial(moved, lambda leaf: leaf[sources]), cache.own))

  def label_logprobs(
    self,
    weights: Weights,
    prompt: Sequence[int],
    labels: Sequence[Sequence[int]],
    targets: np.ndarray,
    shared: Shared | None,
  ) -> jax.Array:
    # The prompt in the encoder; in the decoder each label but for its last token, behind the start token.
    source = np.zeros((1, bucket(len(prompt))), np.int32)
    source[0, : len(prompt)] = prompt
    row, place = Row.empty(targets.shape[1]), 0
    for number, label in enumerate(labels):
      row.put(place, [self.model.config.start_id, *label[:-1]], 0, number + 1)
      place += len(label)
    return _logprobs(self.model, weights, source, np.array([len(prompt)]), *row, targets)


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(model, weights, source, lengths, tokens, positions, segments, targets) -> jax.Array:
  cross = t5_cached.cross(model, weights, t5_cached.encode(model, weights, source, lengths))
  hidden, _ = t5_cached.cached_hidden(model, weights, tokens, positions, segment_mask(segments), cross, lengths)
  return chosen(t5_cached.logits(model, weights, hidden), targets)
