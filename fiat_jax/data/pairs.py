"""Packed batches of encoder–decoders: prompts side by side in the encoder's rows, their targets in the decoder's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fiat_jax.data.packing import Example, Packing, Shape, fill_rows, padded_count
from fiat_jax.data.sequences import ATTENTION_EQUALS_REST, Sequences

DECODER = 1.5  # what a token of the decoder costs, with its second attention and the logits, beside one of the encoder


class PairBatch(NamedTuple):
  """A global batch as M microbatches, of which the first `microbatches` hold anything.

  encoder_tokens, encoder_segments: [M, R, S]; segment 0 is padding. A segment stands in one piece, so that positions
  follow from places.
  decoder_tokens, decoder_segments: [M, R, T]; the start token and the target but for its last, of the same segments.
  target_ids, target_weights: [M, R, T]; what each place of the decoder predicts, and what that weighs in the
  loss: 1.0, or 0.0 where there is nothing.
  """

  encoder_tokens: np.ndarray
  encoder_segments: np.ndarray
  decoder_tokens: np.ndarray
  decoder_segments: np.ndarray
  target_ids: np.ndarray
  target_weights: np.ndarray
  microbatches: int


@dataclasses.dataclass(frozen=True)
class Pairs:
  """A `Packing`; `start_id` is what the decoder reads first."""

  start_id: int

  def size(self, example: Example) -> int:
    return len(example.inputs)

  def sizes(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    return inputs

  def rooms(self, length: int, inputs: np.ndarray, targets: np.ndarray) -> Sequence[int]:
    longest = -(-int(targets.max()) // 8) * 8
    return [longest * times for times in (1, 2, 3, 4, 6, 8)]

  def tokens(self, length: int, targets: int) -> int:
    return length + targets

  def cost(self, length: int, targets: int) -> float:
    encoder = length * (1 + length / ATTENTION_EQUALS_REST)
    return encoder + DECODER * targets * (1 + (length + targets) / (2 * ATTENTION_EQUALS_REST))

  def pack(self, examples: Sequence[Example], shape: Shape) -> PairBatch:
    return pack_pairs(examples, shape, self.start_id)


def pack_pairs(examples: Sequence[Example], shape: Shape, start_id: int) -> PairBatch:
  """Packs whole examples into as few rows as first-fit finds; no example is cut.

  Args:
    shape: `length` is the encoder's, `targets` the decoder's.
    start_id: what the decoder reads first.
  """
  rows = fill_rows(examples, shape, size=lambda example: len(example.inputs))
  count, padded = padded_count(rows, shape)
  total = padded * shape.rows
  weights = np.zeros((total, shape.targets), np.float32)
  encoder, encoder_segments = (np.zeros((total, shape.length), np.int32) for _ in range(2))
  decoder, decoder_segments, ids = (np.zeros((total, shape.targets), np.int32) for _ in range(3))
  for r, row in enumerate(rows):
    start = begin = 0
    for segment, example in enumerate(row, 1):
      stop, end = start + len(example.inputs), begin + len(example.targets)
      encoder[r, start:stop], encoder_segments[r, start:stop] = example.inputs, segment
      decoder[r, begin], decoder[r, begin + 1 : end] = start_id, example.targets[:-1]
      ids[r, begin:end], decoder_segments[r, begin:end] = example.targets, segment
      weights[r, begin:end] = example.weight
      start, begin = stop, end
  arrays = (encoder, encoder_segments, decoder, decoder_segments, ids, weights)
  return PairBatch(*(a.reshape(padded, shape.rows, -1) for a in arrays), microbatches=count)


def packing_of(start_id: int | None) -> Packing:
  """The packing of models whose decoder reads `start_id` first, or, without it, of decoder-only ones."""
  return Sequences() if start_id is None else Pairs(start_id)
