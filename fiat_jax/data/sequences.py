"""Packed batches of decoder-only models: prompt and target one after the other in a row, examples side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fiat_jax.data.packing import Example, Shape, fill_rows, padded_count

ATTENTION_EQUALS_REST = 4096  # tokens a row at which attention costs as much as all else


class Batch(NamedTuple):
  """A global batch as M microbatches, of which the first `microbatches` hold anything.

  tokens, positions, segments: [M, R, S]; segment 0 is padding, positions restart with each segment.
  target_index, target_ids, target_weights: [M, R, T]; the position before each target token, the token, what it weighs
  in the loss: 1.0, or 0.0 where there is none.
  """

  tokens: np.ndarray
  positions: np.ndarray
  segments: np.ndarray
  target_index: np.ndarray
  target_ids: np.ndarray
  target_weights: np.ndarray
  microbatches: int


@dataclasses.dataclass(frozen=True)
class Sequences:
  """A `Packing`; a row's room for targets follows from its length."""

  def size(self, example: Example) -> int:
    return example.length

  def sizes(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return inputs + targets

  def rooms(self, length: int, inputs: np.ndarray, targets: np.ndarray) -> Sequence[int]:
    share = float((targets / (inputs + targets)).max())
    return [min(length, -(-int(share * length + 1) // 8) * 8)]

  def tokens(self, length: int, targets: int) -> int:
    return length

  def cost(self, length: int, targets: int) -> float:
    return length * (1 + length / ATTENTION_EQUALS_REST)

  def pack(self, examples: Sequence[Example], shape: Shape) -> Batch:
    return pack(examples, shape)


def pack(examples: Sequence[Example], shape: Shape) -> Batch:
  """Packs whole examples into as few rows as first-fit finds; no example is cut."""
  rows = fill_rows(examples, shape)
  count, padded = padded_count(rows, shape)
  total = padded * shape.rows
  tokens, positions, segments = (np.zeros((total, shape.length), np.int32) for _ in range(3))
  index, ids = (np.zeros((total, shape.targets), np.int32) for _ in range(2))
  weights = np.zeros((total, shape.targets), np.float32)
  for r, row in enumerate(rows):
    start = filled = 0
    for segment, example in enumerate(row, 1):
      stop, first = start + example.length, start + len(example.inputs)
      learned = np.arange(len(example.targets)) if example.learned is None else np.flatnonzero(example.learned)
      n = len(learned)
      tokens[r, start:stop] = np.concatenate([example.inputs, example.targets])
      positions[r, start:stop] = np.arange(example.length)
      segments[r, start:stop] = segment
      index[r, filled : filled + n] = first - 1 + learned
      ids[r, filled : filled + n] = example.targets[learned]
      weights[r, filled : filled + n] = example.weight
      start, filled = stop, filled + n
  micro = [a.reshape(padded, shape.rows, -1) for a in (tokens, positions, segments, index, ids, weights)]
  return Batch(*micro, microbatches=count)
