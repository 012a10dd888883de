"""From tokenised rows to packed arrays: global batch i is a pure function of (seed, i)."""

from __future__ import annotations

import functools
import pathlib
from typing import Any, Protocol

import grain
import numpy as np

from fiat_jax.data import distilled
from fiat_jax.data import packing as packing_
from fiat_jax.data.packing import Example, Packing, Shape
from fiat_jax.data.sequences import Sequences

SIZE_STREAM = 0x51E5
DROPOUT_STREAM = 0x5EA5  # sets these draws apart from others with the same seed


class Examples(Protocol):
  """Random access to tokenised examples.

  Attributes:
    sources: the number of the row that each example is of [N].
  """

  @property
  def sources(self) -> np.ndarray: ...

  def __len__(self) -> int: ...

  def __getitem__(self, index: int) -> Example: ...

  def lengths(self, name: str) -> np.ndarray:
    """Number of ids of every example's `inputs` or `targets` [N], the same in every epoch."""
    ...

  def of_epoch(self, seed: int, epoch: int) -> Examples:
    """The examples as training reads them in one pass over them."""
    ...


def read_ids(folder: pathlib.Path, name: str) -> tuple[np.ndarray, np.ndarray]:
  """All ids of a column, memory-mapped, one example after another, and where each example ends [N]."""
  return np.load(folder / f"{name}.npy", mmap_mode="r"), np.load(folder / f"{name}_ends.npy")


class Shard:
  """`Examples`: memory-mapped random access to a folder that `data/tokenise.py` wrote."""

  def __init__(self, folder: pathlib.Path):
    columns = {name: read_ids(folder, name) for name in ("inputs", "targets")}
    self._ids = {name: ids for name, (ids, _) in columns.items()}
    self._ends = {name: ends for name, (_, ends) in columns.items()}

  @property
  def sources(self) -> np.ndarray:
    return np.arange(len(self))

  def of_epoch(self, seed: int, epoch: int) -> Shard:
    return self

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


class Subset:
  """`Examples`: some of others, by their numbers there [N]."""

  def __init__(self, examples: Examples, numbers: np.ndarray):
    self._examples, self._numbers = examples, numbers

  @property
  def sources(self) -> np.ndarray:
    return self._examples.sources[self._numbers]

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: int) -> Example:
    return self._examples[int(self._numbers[index])]

  def lengths(self, name: str) -> np.ndarray:
    return self._examples.lengths(name)[self._numbers]

  def of_epoch(self, seed: int, epoch: int) -> Examples:
    return Subset(self._examples.of_epoch(seed, epoch), self._numbers)


def drawn(count: int, wanted: int, seed: int) -> np.ndarray:
  """Numbers of examples [min(count, wanted)], in order; those of a smaller `wanted` are among them. 0 wants all."""
  chosen = np.random.default_rng((SIZE_STREAM, seed)).permutation(count)[: wanted or count]
  return np.sort(chosen)


def choose_shape(
  shard: Examples,
  microbatch_tokens: int,
  batch: int,
  short: Examples | None = None,
  packing: Packing | None = None,
  explained: Examples | None = None,
  parts: int = 1,
) -> Shape:
  """The row that wastes least when batches of this size are packed, tried on the first rows.

  Args:
    short: the same examples in the form that reasoning dropout gives them; they fit in as well.
    packing: the model family's; a decoder-only model's where none is given.
    explained: the same examples with their reasoning as the target, which a batch holds beside them.
    parts: into so many a microbatch's rows are dealt.
  """
  forms = [form for form in (shard, short, explained) if form]
  inputs, targets = (np.concatenate([form.lengths(name) for form in forms]) for name in ("inputs", "targets"))
  together = [form for form in (shard, explained) if form]
  sample = [form[n] for n in range(min(len(shard), 16 * batch)) for form in together]
  size = batch * len(together)
  return packing_.choose_shape(packing or Sequences(), sample, inputs, targets, microbatch_tokens, size, parts)


def longest_size(packing: Packing, *forms: Examples | None) -> int:
  """How much of a row's length the longest example takes, in whichever form."""
  return max(int(packing.sizes(s.lengths("inputs"), s.lengths("targets")).max()) for s in forms if s)


class Batches:
  """`batches[i]`, for any i ≥ 0: examples in an order that is shuffled anew each epoch, packed.

  Args:
    short: the same examples without their reasoning.
    dropout: the share of examples that are taken from there, drawn anew each epoch from (seed, epoch).
    packing: the model family's; a decoder-only model's where none is given.
    explained: the same examples with their reasoning as the target, each beside its own, or with no target but the end
      mark where it has none; half of the loss is theirs (`distilled.py`).
    parts: into so many a microbatch's rows are dealt.
  """

  def __init__(
    self,
    shard: Examples,
    *,
    size: int,
    seed: int,
    shape: Shape,
    short: Examples | None = None,
    dropout: float = 0.0,
    packing: Packing | None = None,
    explained: Examples | None = None,
    parts: int = 1,
  ):
    self.shape, self.packing, self.parts = shape, packing or Sequences(), parts
    order = grain.MapDataset.source(range(len(shard))).seed(seed).shuffle().repeat()
    self._order, self._shard, self._size = order, shard, size
    self._of_epoch = functools.lru_cache(maxsize=2)(functools.partial(shard.of_epoch, seed))  # a batch may be of two
    self._short, self._dropout, self._seed = short, dropout, seed
    self._explained = explained
    self._reasoned = explained.lengths("targets") > 1 if explained else np.zeros(len(shard), bool)

  def __getitem__(self, i: int) -> Any:
    places = range(i * self._size, (i + 1) * self._size)
    examples = [self._example(*pair) for pair in zip(places, self.rows(i), strict=True)]
    if self._explained:
      examples = distilled.weighed(examples, [self._explained[n] for n in self.rows(i) if self._reasoned[n]])
    return self.packing.pack(examples, self.shape)

  def halved(self) -> Shape | None:
    """A smaller shape that still holds every example; None where there is none."""
    forms = [form for form in (self._shard, self._short, self._explained) if form]
    most = max(int(form.lengths("targets").max()) for form in forms)
    return packing_.halved(self.shape, longest_size(self.packing, *forms), most, self.parts)

  def lengths(self) -> np.ndarray:
    """How much of a row's length every example takes [N], in the longer of its forms."""
    forms = [form for form in (self._shard, self._explained) if form]
    return np.max([self.packing.sizes(form.lengths("inputs"), form.lengths("targets")) for form in forms], axis=0)

  def _example(self, place: int, number: int) -> Example:
    epoch = place // len(self._shard)
    if self._short and number in _dropped(self._seed, epoch, len(self._shard), self._dropout):
      return self._short[number]
    return self._of_epoch(epoch)[number]

  def rows(self, i: int) -> list[int]:
    """The numbers of the rows in batch i."""
    return [int(self._order[j]) for j in range(i * self._size, (i + 1) * self._size)]  # pyright: ignore[reportArgumentType]


@functools.lru_cache(maxsize=4)
def _dropped(seed: int, epoch: int, count: int, share: float) -> frozenset[int]:
  """The numbers of the examples whose reasoning is left out in an epoch."""
  draws = np.random.default_rng((DROPOUT_STREAM, seed, epoch)).random(count)
  return frozenset(np.flatnonzero(draws < share).tolist())
