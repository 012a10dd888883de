"""Examples behind a soft prompt: the ids of its places stand before every input (`models/adapters.py`)."""

from __future__ import annotations

import numpy as np

from fiat_jax.data.batches import Examples
from fiat_jax.data.packing import Example


class Prompted:
  """`Examples`: others, with `count` places more in front."""

  def __init__(self, examples: Examples, count: int):
    self._examples, self._count = examples, count
    self._ids = -1 - np.arange(count, dtype=np.int32)

  @property
  def sources(self) -> np.ndarray:
    return self._examples.sources

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, index: int) -> Example:
    found = self._examples[index]
    return found._replace(inputs=np.concatenate([self._ids, found.inputs]))

  def lengths(self, name: str) -> np.ndarray:
    return self._examples.lengths(name) + (self._count if name == "inputs" else 0)

  def of_epoch(self, seed: int, epoch: int) -> Prompted:
    return Prompted(self._examples.of_epoch(seed, epoch), self._count)


def prompted(examples: Examples, count: int) -> Examples:
  """The examples behind so many places; none: as they are."""
  return Prompted(examples, count) if count else examples
