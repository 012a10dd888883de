"""Examples into rows: what is packed, the static shape that it is packed into, first-fit, and the choice of shape.

What stands in a row is the model family's: `sequences.py`, `pairs.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

OVERHEAD = 64.0  # what a microbatch costs whatever it holds, as tokens: every weight is read for it


class Example(NamedTuple):
  """One tokenised row: prompt ids [S], target ids with the end mark [T], its number in the file.

  `weight` is what each of its target tokens weighs in the loss; `learned` [T] says which targets carry loss; None: all.
  """

  inputs: np.ndarray
  targets: np.ndarray
  row: int
  weight: float = 1.0
  learned: np.ndarray | None = None

  @property
  def length(self) -> int:
    return len(self.inputs) + len(self.targets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
  """The static shape of a microbatch: R rows of `length` tokens, with room for so many target tokens a row."""

  rows: int
  length: int
  targets: int


class Packing(Protocol):
  """How a model family's examples fill rows. Arrays of `inputs` and `targets` are numbers of tokens [N]."""

  def size(self, example: Example) -> int:
    """How much of a row's length an example takes."""
    ...

  def sizes(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """The same of many [N]."""
    ...

  def rooms(self, length: int, inputs: np.ndarray, targets: np.ndarray) -> Sequence[int]:
    """Which rooms for targets are worth trying in a row of this length; each holds the longest target."""
    ...

  def tokens(self, length: int, targets: int) -> int:
    """How many tokens a row counts as in a microbatch."""
    ...

  def cost(self, length: int, targets: int) -> float:
    """What computing a row costs, in whatever unit."""
    ...

  def pack(self, examples: Sequence[Example], shape: Shape) -> Any:
    """Whole examples in as few rows as first-fit finds, as M microbatches of arrays [M, R, …]."""
    ...


def choose_shape(
  packing: Packing,
  examples: Sequence[Example],
  inputs: np.ndarray,
  targets: np.ndarray,
  tokens: int,
  batch: int,
  parts: int = 1,
) -> Shape:
  """The microbatch that wastes least when batches of this size are packed, within the budget and no less than half.

  Lengths from the longest example's up to four times that are tried, and numbers of rows: batches that need 9 rows are
  computed in three microbatches of 3 rows, where a budget of 4 would leave a quarter of 12 rows empty.

  Args:
    examples: the ones to try on.
    inputs, targets: numbers of tokens [N] of all examples; each fits in.
    tokens: of one device's part of a microbatch.
    batch: examples of a batch.
    parts: into so many a microbatch's rows are dealt, all of one size.
  """
  chunks = [examples[n : n + batch] for n in range(0, len(examples), batch)]
  first = rounded_up(int(packing.sizes(inputs, targets).max()))
  found: list[tuple[float, int, int, int]] = []
  for length in range(first, max(4 * first, 256) + 1, 64):
    for room in packing.rooms(length, inputs, targets):
      one = Shape(rows=1, length=length, targets=room)
      needed = np.asarray([len(fill_rows(chunk, one, packing.size)) for chunk in chunks])
      cost = packing.cost(length, room)
      most = min(max(1, tokens // packing.tokens(length, room)), -(-int(needed.max()) // parts))
      for rows in range(-(-most // 2), most + 1):
        microbatches = int(np.ceil(needed / (rows * parts)).sum())
        found.append((microbatches * (rows * cost + OVERHEAD), -rows, length, room))
  _, rows, length, room = min(found)
  return Shape(rows=-rows * parts, length=length, targets=room)


def halved(shape: Shape, longest: int, most: int, parts: int = 1) -> Shape | None:
  """Half the rows a microbatch; of a single row a part, half its room, but for the longest example's; else None.

  Args:
    longest: how much of a row's length an example takes at the most.
    most: how many targets an example has at the most.
    parts: into so many the rows are dealt.
  """
  if shape.rows > parts:
    return dataclasses.replace(shape, rows=shape.rows // parts // 2 * parts)
  smaller = Shape(
    rows=parts,
    length=min(shape.length, max(rounded_up(shape.length // 2), rounded_up(longest))),
    targets=min(shape.targets, max(-(-shape.targets // 2), most)),
  )
  return None if smaller == shape else smaller


def rounded_up(tokens: int) -> int:
  """To lengths that rows have."""
  return -(-tokens // 64) * 64


def fill_rows(
  examples: Sequence[Example], shape: Shape, size: Callable[[Example], int] = lambda example: example.length
) -> list[list[Example]]:
  """Longest first, each into the first row with room: the order within a batch does not change its loss.

  Args:
    size: how much of a row's `shape.length` an example takes.
  """
  rows: list[list[Example]] = []
  room: list[tuple[int, int]] = []
  for example in sorted(examples, key=lambda e: (-e.length, e.row)):
    needs = (size(example), len(example.targets))
    fits = (n for n, (tokens, targets) in enumerate(room) if needs[0] <= tokens and needs[1] <= targets)
    row = next(fits, None)
    if row is None:
      row = len(rows)
      rows.append([])
      room.append((shape.length, shape.targets))
    rows[row].append(example)
    room[row] = (room[row][0] - needs[0], room[row][1] - needs[1])
  return rows


def padded_count(rows: Sequence[Sequence[Example]], shape: Shape) -> tuple[int, int]:
  """How many microbatches the rows make, and that rounded up to a power of two: few shapes, so few compilations."""
  count = -(-len(rows) // shape.rows)
  return count, 1 << (count - 1).bit_length()
