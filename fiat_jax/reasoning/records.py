"""JSON lines that are only ever added to, by several processes at once: what store and ledger are kept in.

Every record is one line, written under a lock of the folder and on the disk (fsync) before `append` returns. A process
that dies while it writes leaves a torn last line: the next one to write cuts it off, readers do not see it. Where a
file has grown to `SHARD_BYTES` the next one begins: `answers-00000.jsonl`, `answers-00001.jsonl`, …
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from fiat_jax.errors import UserError

SHARD_BYTES = 256 * 2**20

Record = dict[str, Any]


class Records:
  """The shards `{name}-NNNNN.jsonl` of a folder.

  Between two calls other processes may add records: `fresh` gives those that this object has not seen, its own too.
  """

  def __init__(self, folder: pathlib.Path, name: str):
    self.folder, self.name = folder, name
    self._shard, self._place, self._line = 0, 0, 0
    try:
      folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
      raise UserError(f"cannot be made ({e.strerror}): give another --store", folder) from None

  @contextlib.contextmanager
  def locked(self) -> Iterator[None]:
    """Keeps other processes from writing to anything in the folder."""
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
          self._place += len(raw)
          self._line += 1
          yield self._parsed(raw, path)
      if not self._path(self._shard + 1).exists():
        return
      self._shard, self._place, self._line = self._shard + 1, 0, 0

  def append(self, records: Iterable[Record]) -> None:
    """Adds records; they are on the disk when this returns, all or, after an OSError, none. The lock is held."""
    content = b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
    path = self._last()
    if path.exists() and path.stat().st_size >= SHARD_BYTES:
      path = self._path(int(path.stem.rpartition("-")[2]) + 1)
    with open(path, "ab", buffering=0) as file:
      end = _cut_torn(path, file.fileno())
      try:
        view = memoryview(content)
        while view:
          view = view[file.write(view) :]
        os.fsync(file.fileno())
      except OSError:
        os.ftruncate(file.fileno(), end)
        raise

  def _last(self) -> pathlib.Path:
    number = self._shard
    while self._path(number + 1).exists():
      number += 1
    return self._path(number)

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
