"""What rows are told apart by, as numbers: a few bytes a row, however long the texts are."""

from __future__ import annotations

import array
import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np

from fiat_jax.data.rows import Row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keys:
  """64-bit digests of N rows, uint64 [N]: equal where the texts are; of a million texts two meet once in 30 million.

  `contents` is of input and target; `grouped` (bool) is false where the group was made from the id.
  """

  ids: np.ndarray
  groups: np.ndarray
  inputs: np.ndarray
  contents: np.ndarray
  grouped: np.ndarray

  def __len__(self) -> int:
    return len(self.ids)

  def distinct(self) -> np.ndarray:
    """The positions of the rows that do not repeat the input and target of one before, in order."""
    return np.sort(np.unique(self.contents, return_index=True)[1])


def keys_of(rows: Iterable[Row]) -> Keys:
  """The keys of rows, gone through once."""
  found = {name: array.array("Q") for name in ("ids", "groups", "inputs", "contents")}
  grouped = array.array("B")
  for row in rows:
    found["ids"].append(digest(row.id))
    found["groups"].append(digest(row.group))
    found["inputs"].append(digest(row.x))
    found["contents"].append(digest(repr((row.x, row.targets))))
    grouped.append(row.group != row.id)
  columns = {name: np.array(values, np.uint64) for name, values in found.items()}
  return Keys(**columns, grouped=np.array(grouped, bool))


def digest(text: str) -> int:
  """64 bits of a text, the same everywhere."""
  return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
