"""Labels side by side in one row, as both families' passes over them take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax import sharding


class Row(NamedTuple):
  """What a family makes of a prompt and its labels: arguments of its pass over one row."""

  tokens: np.ndarray
  positions: np.ndarray
  segments: np.ndarray

  @classmethod
  def empty(cls, size: int) -> Row:
    return cls(*(np.zeros((1, size), np.int32) for _ in cls._fields))

  def put(self, place: int, ids: Sequence[int], position: int, segment: int) -> None:
    """Writes ids from `place` on, the first of them at `position`."""
    at = slice(place, place + len(ids))
    self.tokens[0, at], self.positions[0, at], self.segments[0, at] = ids, position + np.arange(len(ids)), segment


class Shared(NamedTuple):
  """What is kept of ids that many prompts begin with: keys and values a layer, padded, and how many ids there are."""

  prefix: Any
  length: int


def chosen(logits: jax.Array, targets: jax.Array) -> jax.Array:
  """log P [1, T] of the targets [1, T] under logits [1, T, V]."""
  found = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, :, None], axis=-1)[:, :, 0]
  return sharding.constrain(found)
