"""JSON lines that are only ever added to, by several processes at once: what store and ledger are kept in.

Every record is one line, written under a lock of the folder and on the disk (fsync) before `append` returns. A process
that dies while it writes leaves a torn last line: the next one to write cuts it off, readers do not see it. Where a
file has grown to `SHARD_BYTES` the next one begins: `answers-00000.jsonl`, `answers-00001.jsonl`, … While something is
under way a file of `BALLAST_BYTES` lies beside them: on a full disk it goes, and what has come is written in its place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import pathlib
import stat
from collections.abc import Iterable, Iterator
from typing import Any

from fiat_jax.errors import UserError

SHARD_BYTES = 256 * 2**20
BALLAST_BYTES = 16 * 2**20
BALLAST = "ballast"
FULL = (errno.ENOSPC, errno.EDQUOT)

Record = dict[str, Any]
Place = tuple[int, int]  # shard, and where in it the record's line begins


class Records:
  """The shards `{name}-NNNNN.jsonl` of a folder.

  Between two calls other processes may add records: `fresh` gives those that this object has not seen, its own too.
  The folder is made when something is written.

  Attributes:
    place: of the record that `fresh` gave last.
  """

  def __init__(self, folder: pathlib.Path, name: str):
    self.folder, self.name = folder, name
    self._shard, self._place, self._line = 0, 0, 0
    self.place: Place = (0, 0)
    for place in (folder, *folder.parents):
      try:
        fits = stat.S_ISDIR(place.stat().st_mode)
      except FileNotFoundError:
        continue
      except OSError:  # below a file, or of too long a name
        fits = False
      if fits:
        break
      raise UserError("is no folder: give another --store", place)

  def make_folder(self) -> None:
    """What is only read of a store makes none."""
    try:
      self.folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
      raise UserError(f"cannot be made ({e.strerror}): give another --store", self.folder) from None

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """Keeps other processes from writing to anything in the folder."""
    self.make_folder()
    with open(self.folder / "lock", "a") as file:
      fcntl.flock(file, fcntl.LOCK_EX)
      yield

  def fresh(self) -> Iterator[Record]:
    """The whole records that were added since the last call, in order; they are to be gone through to the end.

    Raises:
      UserError: a line that is not the last is no JSON object: the file was damaged.
    """
    while (path := self._path(self._shard)).exists():
      with open(path, "rb") as file:
        file.seek(self._place)
        for raw in file:
          if not raw.endswith(b"\n"):
            break  # torn, or still being written
          self.place = (self._shard, self._place)
          self._place += len(raw)
          self._line += 1
          yield self._parsed(raw, path)
      if not self._path(self._shard + 1).exists():
        return
      self._shard, self._place, self._line = self._shard + 1, 0, 0

  def at(self, place: Place) -> Record:
    """The record of a place."""
    with open(self._path(place[0]), "rb") as file:
      file.seek(place[1])
      return json.loads(file.readline())

  def append(self, records: Iterable[Record]) -> None:
    """Adds records; they are on the disk when this returns, all or, after an OSError, none. The lock is held.

    On a full disk they are written in the ballast's place; where a file may not grow any more, in the next shard.
    """
    content = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
    path = self._last()
    if path.exists() and path.stat().st_size >= SHARD_BYTES:
      path = self._next(path)
    try:
      self._write(path, content)
    except OSError as e:
      if e.errno == errno.EFBIG and path.stat().st_size:
        self._write(self._next(path), content)
      elif e.errno in FULL and self.drop_ballast():
        self._write(path, content)
      else:
        raise

  def hold_ballast(self) -> None:
    """Keeps room on the disk for what must still be written once it is full. Raises OSError where there is none."""
    path = self.folder / BALLAST
    if path.exists():
      return
    self.make_folder()
    with open(path, "wb") as file:
      try:
        os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
      except OSError as e:
        path.unlink()
        if e.errno != errno.EFBIG:  # files may not grow so long here: the next shard is written
          raise

  def drop_ballast(self) -> bool:
    """Gives the room back; whether there was any."""
    try:
      (self.folder / BALLAST).unlink()
    except FileNotFoundError:
      return False
    return True

  def _write(self, path: pathlib.Path, content: bytes) -> None:
    with open(path, "ab", buffering=0) as file:
      end = _cut_torn(path, file.fileno())
      try:
        view = memoryview(content)
        while view:
          view = view[file.write(view) :]
        os.fsync(file.fileno())
      except OSError as e:
        os.ftruncate(file.fileno(), end)
        raise OSError(e.errno, e.strerror, str(path)) from e

  def _last(self) -> pathlib.Path:
    number = self._shard
    while self._path(number + 1).exists():
      number += 1
    return self._path(number)

  def _next(self, path: pathlib.Path) -> pathlib.Path:
    return self._path(int(path.stem.rpartition("-")[2]) + 1)

  def _path(self, number: int) -> pathlib.Path:
    return self.folder / f"{self.name}-{number:05d}.jsonl"

  def _parsed(self, raw: bytes, path: pathlib.Path) -> Record:
    try:
      record = json.loads(raw)
    except ValueError:
      record = None
    if not isinstance(record, dict):
      raise UserError("is no record: the file was damaged. Take the line out, or use a copy", path, self._line)
    return record


def _cut_torn(path: pathlib.Path, file: int) -> int:
  """Where the last whole line ends; what stands behind it goes."""
  size = os.fstat(file).st_size
  with open(path, "rb") as reader:
    end = size
    while end:
      start = max(0, end - 65536)
      reader.seek(start)
      at = reader.read(end - start).rfind(b"\n")
      if at >= 0:
        end = start + at + 1
        break
      end = start
  if end < size:
    os.ftruncate(file, end)
  return end
