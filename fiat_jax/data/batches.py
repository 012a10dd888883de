"""From tokenised rows to packed arrays: global batch i is a pure function of (seed, i)."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import grain
import numpy as np

ATTENTION_EQUALS_REST = 4096  # tokens a row at which attention costs as much as all else
DROPOUT_STREAM = 0x5EA5  # sets these draws apart from others with the same seed


class Example(NamedTuple):
  """One tokenised row: prompt ids [S], target ids with the end mark [T], its number in the file."""

  inputs: np.ndarray
  targets: np.ndarray
  row: int

  @property
  def length(self) -> int:
    return len(self.inputs) + len(self.targets)


class Shard:
  """Memory-mapped random access to the examples of a folder that `data/tokenise.py` wrote."""

  def __init__(self, folder: pathlib.Path):
    self._ids = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("inputs", "targets")}
    self._ends = {name: np.load(folder / f"{name}_ends.npy") for name in ("inputs", "targets")}

  def __len__(self) -> int:
    return len(self._ends["inputs"])

  def __getitem__(self, index: int) -> Example:
    return Example(self._read("inputs", index), self._read("targets", index), int(index))

  def lengths(self, name: str) -> np.ndarray:
    """Number of ids of every example's `inputs` or `targets` [N]."""
    return np.diff(self._ends[name], prepend=0)

  def last_ids(self, name: str) -> np.ndarray:
    """The last id of every example's `inputs` or `targets` [N]; none is empty."""
    return np.asarray(self._ids[name][self._ends[name] - 1])

  def shared_prefix(self) -> int:
    """How many first ids all prompts share, as the template's; never the whole of a prompt."""
    if len(self) < 2:
      return 0
    first = self._read("inputs", 0)
    shared = len(first) - 1
    for number in range(1, len(self)):
      ids = self._read("inputs", number)
      shared = min(shared, len(ids) - 1)
      differs = np.flatnonzero(ids[:shared] != first[:shared])
      shared = int(differs[0]) if differs.size else shared
    return shared

  def _read(self, name: str, index: int) -> np.ndarray:
    start = self._ends[name][index - 1] if index else 0
    return np.asarray(self._ids[name][start : self._ends[name][index]])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Shape:
  """The static shape of a microbatch: R rows of S tokens, with room for T target tokens a row."""

  rows: int
  length: int
  targets: int


class Batch(NamedTuple):
  """A global batch as M microbatches, of which the first `microbatches` hold anything.

  tokens, positions, segments: [M, R, S]; segment 0 is padding, positions restart with each segment.
  target_index, target_ids, target_weights: [M, R, T]; the position before each target token, the token, 1.0 or 0.0.
  """

  tokens: np.ndarray
  positions: np.ndarray
  segments: np.ndarray
  target_index: np.ndarray
  target_ids: np.ndarray
  target_weights: np.ndarray
  microbatches: int


def choose_shape(shard: Shard, microbatch_tokens: int, batch: int, short: Shard | None = None) -> Shape:
  """The row length that wastes least when batches of this size are packed, and as many rows as fit the budget.

  Lengths from the longest example's up to four times that are tried on the first rows; long rows cost more attention.

  Args:
    short: the same examples in the form that reasoning dropout gives them; they fit in as well.
  """
  lengths = shard.lengths("inputs") + shard.lengths("targets")
  longest = longest_example(shard, short)
  share = float((shard.lengths("targets") / lengths).max())
  sample = [shard[n] for n in range(min(len(shard), 16 * batch))]
  chunks = [sample[n : n + batch] for n in range(0, len(sample), batch)]

  def shape(length: int) -> Shape:
    targets = min(length, -(-int(share * length + 1) // 8) * 8)
    return Shape(rows=max(1, microbatch_tokens // length), length=length, targets=targets)

  def needed(length: int) -> list[int]:
    return [len(fill_rows(chunk, shape(length))) for chunk in chunks]

  def cost(length: int) -> float:
    return sum(needed(length)) * length * (1 + length / ATTENTION_EQUALS_REST)

  first = _round_up(longest)
  best = min(range(first, max(4 * first, 256) + 1, 64), key=cost)
  return dataclasses.replace(shape(best), rows=min(shape(best).rows, max(needed(best))))


def halved(shape: Shape, longest: int) -> Shape | None:
  """Half the rows a microbatch; of a single row, half the length, as long as the longest example fits; else None."""
  if shape.rows > 1:
    return dataclasses.replace(shape, rows=shape.rows // 2)
  length = max(_round_up(shape.length // 2), _round_up(longest))
  if length >= shape.length:
    return None
  return Shape(rows=1, length=length, targets=min(shape.targets, length))


def longest_example(shard: Shard, short: Shard | None = None) -> int:
  """Tokens of the longest example, in whichever form."""
  return max(int((s.lengths("inputs") + s.lengths("targets")).max()) for s in (shard, short) if s)


def _round_up(tokens: int) -> int:
  return -(-tokens // 64) * 64


class Batches:
  """`batches[i]`, for any i ≥ 0: examples in an order that is shuffled anew each epoch, packed.

  Args:
    short: the same examples without their reasoning.
    dropout: the share of examples that are taken from there, drawn anew each epoch from (seed, epoch).
  """

  def __init__(
    self, shard: Shard, *, size: int, seed: int, shape: Shape, short: Shard | None = None, dropout: float = 0.0
  ):
    self.shape = shape
    order = grain.MapDataset.source(range(len(shard))).seed(seed).shuffle().repeat()
    self._order, self._shard, self._size = order, shard, size
    self._short, self._dropout, self._seed = short, dropout, seed

  def __getitem__(self, i: int) -> Batch:
    places = range(i * self._size, (i + 1) * self._size)
    return pack([self._example(*pair) for pair in zip(places, self.rows(i), strict=True)], self.shape)

  def longest(self) -> int:
    return longest_example(self._shard, self._short)

  def lengths(self) -> np.ndarray:
    """Tokens of every example [N]."""
    return self._shard.lengths("inputs") + self._shard.lengths("targets")

  def _example(self, place: int, number: int) -> Example:
    if self._short and number in _dropped(self._seed, place // len(self._shard), len(self._shard), self._dropout):
      return self._short[number]
    return self._shard[number]

  def rows(self, i: int) -> list[int]:
    """The numbers of the rows in batch i."""
    return [int(self._order[j]) for j in range(i * self._size, (i + 1) * self._size)]  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=4)
def _dropped(seed: int, epoch: int, count: int, share: float) -> frozenset[int]:
  """The numbers of the examples whose reasoning is left out in an epoch."""
  draws = np.random.default_rng((DROPOUT_STREAM, seed, epoch)).random(count)
  return frozenset(np.flatnonzero(draws < share).tolist())


def pack(examples: Sequence[Example], shape: Shape) -> Batch:
  """Packs whole examples into as few rows as first-fit finds; no example is cut."""
  rows = fill_rows(examples, shape)
  count = -(-len(rows) // shape.rows)
  padded = 1 << (count - 1).bit_length()  # few distinct shapes, so few compilations
  return _arrays(rows, shape, padded, count)


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


def _arrays(rows: list[list[Example]], shape: Shape, padded: int, count: int) -> Batch:
  total = padded * shape.rows
  tokens, positions, segments = (np.zeros((total, shape.length), np.int32) for _ in range(3))
  index, ids = (np.zeros((total, shape.targets), np.int32) for _ in range(2))
  weights = np.zeros((total, shape.targets), np.float32)
  for r, row in enumerate(rows):
    start = filled = 0
    for segment, example in enumerate(row, 1):
      stop, first, n = start + example.length, start + len(example.inputs), len(example.targets)
      tokens[r, start:stop] = np.concatenate([example.inputs, example.targets])
      positions[r, start:stop] = np.arange(example.length)
      segments[r, start:stop] = segment
      index[r, filled : filled + n] = np.arange(first - 1, first - 1 + n)
      ids[r, filled : filled + n] = example.targets
      weights[r, filled : filled + n] = 1.0
      start, filled = stop, filled + n
  micro = [a.reshape(padded, shape.rows, -1) for a in (tokens, positions, segments, index, ids, weights)]
  return Batch(*micro, microbatches=count)
