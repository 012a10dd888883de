"""A sequence whose items lie in a file without a name, which ends with the sequence, and its process, at the latest.

Or in a folder that is kept.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, Generic, Self, TypeVar, overload

import numpy as np

T = TypeVar("T")


class Spilled(Sequence[T], Generic[T]):
  """Items that are read and made anew whenever they are asked for: 16 bytes each in memory, however long they are.

  A slice is a list. What is changed in an item is lost.
  """

  def __init__(self, file: BinaryIO, decode: Callable[[bytes], T], starts: np.ndarray, sizes: np.ndarray):
    """Of `write` and `take`. Item n is the `sizes[n]` bytes of the file from `starts[n]`; both int64 [N]."""
    self._file, self._decode, self._starts, self._sizes = file, decode, starts, sizes

  @classmethod
  def write(cls, items: Iterable[T], encode: Callable[[T], bytes], decode: Callable[[bytes], T]) -> Self:
    """Writes the items, one after another; `decode` undoes `encode`."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  closed with the last sequence over it
    sizes = np.fromiter((file.write(encode(item)) for item in items), np.int64)
    file.flush()
    return cls(file, decode, np.cumsum(sizes) - sizes, sizes)

  def keep(self, folder: pathlib.Path) -> None:
    """Writes the items into a folder, which appears whole or not at all; `opened` gives them again."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix="partial-"))
    try:
      with open(work / "items", "wb") as file:
        for start, size in zip(self._starts.tolist(), self._sizes.tolist(), strict=True):
          file.write(os.pread(self._file.fileno(), size, start))
      np.save(work / "sizes.npy", self._sizes)
      os.rename(work, folder)
    except OSError:
      if not folder.is_dir():  # another process may have put the same there first
        raise
    finally:
      shutil.rmtree(work, ignore_errors=True)

  @classmethod
  def opened(cls, folder: pathlib.Path, decode: Callable[[bytes], T]) -> Self:
    """The items that `keep` wrote."""
    sizes = np.load(folder / "sizes.npy")
    return cls(open(folder / "items", "rb"), decode, np.cumsum(sizes) - sizes, sizes)

  def take(self, positions: Sequence[int] | np.ndarray) -> Self:
    """The items of these positions, in this order, in the same file."""
    chosen = np.asarray(positions, np.int64)
    return type(self)(self._file, self._decode, self._starts[chosen], self._sizes[chosen])

  def __len__(self) -> int:
    return len(self._sizes)

  def __iter__(self) -> Iterator[T]:
    return (self._item(n) for n in range(len(self)))

  @overload
  def __getitem__(self, index: int) -> T: ...
  @overload
  def __getitem__(self, index: slice) -> list[T]: ...
  def __getitem__(self, index: int | slice) -> T | list[T]:
    if isinstance(index, slice):
      return [self._item(n) for n in range(*index.indices(len(self)))]
    return self._item(range(len(self))[index])

  def _item(self, n: int) -> T:
    return self._decode(os.pread(self._file.fileno(), int(self._sizes[n]), int(self._starts[n])))
