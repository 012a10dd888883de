"""A shard that grows in a folder of its own, with progress that outlives a stop.

The folder is named like the shard, so that the next process goes on where the last one wrote down how far it had come;
only one works there at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from fiat_jax.data.columns import Column
from fiat_jax.errors import UserError
from fiat_jax.whole import write_whole

SECONDS = 5.0  # after which progress is written down, and told


class Making:
  """Of `making`. Columns that `append` adds to, and how far they have come.

  Attributes:
    rows: how many rows are behind, those of earlier processes too.
    most: the largest of the numbers that came with blocks.
  """

  def __init__(self, work: pathlib.Path, columns: Mapping[str, Column], rows: int, most: int):
    self.folder, self.rows, self.most = work, rows, most
    self._columns, self._kept = columns, time.monotonic()

  def append(self, values: Mapping[str, np.ndarray], rows: int, most: int = 0) -> bool:
    """Adds what a block of so many rows became; whether progress was written down."""
    for name, column in self._columns.items():
      column.append(values[name])
    self.rows, self.most = self.rows + rows, max(self.most, most)
    if time.monotonic() - self._kept < SECONDS:
      return False
    self.keep()
    self._kept = time.monotonic()
    return True

  def keep(self) -> None:
    """What was appended outlives this process."""
    for column in self._columns.values():
      column.flush()
    lengths = {name: column.length for name, column in self._columns.items()}
    write_whole(self.folder / "progress.json", json.dumps({"rows": self.rows, "most": self.most, "lengths": lengths}))

  def length(self, name: str) -> int:
    return self._columns[name].length


def make(folder: pathlib.Path, columns: Mapping[str, str], fill: Callable[[Making], None]) -> None:
  """Makes the shard, or goes on making it, unless it is there.

  Args:
    columns: types of its columns. Of those called `NAME_lengths`, `NAME_ends` is kept, where each row ends.
    fill: appends to them, from the row that is next.

  Raises:
    UserError: `fill` did; nothing is kept then.
  """
  work = folder.with_name(f"{folder.name}.making")
  work.mkdir(parents=True, exist_ok=True)
  with _alone(work):
    if folder.is_dir():  # another process was quicker
      shutil.rmtree(work, ignore_errors=True)
      return
    kept = _kept(work, columns)
    lengths = kept.get("lengths", {})
    with contextlib.ExitStack() as stack:
      opened = {
        name: stack.enter_context(Column(work / f"{name}.npy", dtype, lengths.get(name, 0)))
        for name, dtype in columns.items()
      }
      try:
        fill(Making(work, opened, kept.get("rows", 0), kept.get("most", 0)))
      except UserError:
        shutil.rmtree(work)  # the rows will be others
        raise
    lengths = [name for name in columns if name.endswith("_lengths")]
    for name in lengths:
      ends = np.cumsum(np.load(work / f"{name}.npy"), dtype=np.int64)
      np.save(work / f"{name.removesuffix('_lengths')}_ends.npy", ends)
    os.rename(work, folder)
    for rest in ("progress.json", *(f"{name}.npy" for name in lengths)):
      (folder / rest).unlink(missing_ok=True)


def _kept(work: pathlib.Path, columns: Mapping[str, str]) -> dict:
  """The progress that was written down; none where a column is shorter than it says, as after a power cut."""
  file = work / "progress.json"
  kept = json.loads(file.read_text()) if file.exists() else {}
  for name, length in kept.get("lengths", {}).items():
    column = work / f"{name}.npy"
    if name not in columns or not column.exists() or column.stat().st_size < length * np.dtype(columns[name]).itemsize:
      return {}
  return kept


@contextlib.contextmanager
def _alone(work: pathlib.Path) -> Iterator[None]:
  """Waits until no other process works in the folder."""
  with open(work.with_name(f"{work.name}.lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    work.mkdir(exist_ok=True)
    yield
