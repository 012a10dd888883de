"""One process a run folder: a lock that the kernel lets go of when the process ends, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
from collections.abc import Iterator

from fiat_jax.errors import UserError
from fiat_jax.progress import say

NAME = "in_use_by"  # holds the process's number; only a hint: the lock is what counts


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
  """Holds the folder, which exists, for this process alone.

  Raises:
    UserError: another process works in it.
  """
  path = folder / NAME
  file = _take(path)
  try:
    yield
  finally:
    if file is not None:
      path.unlink(missing_ok=True)  # while it is still locked: whoever opened it before finds that it has gone
      os.close(file)


def _take(path: pathlib.Path) -> int | None:
  """The locked file's descriptor; None where the file system knows no locks."""
  while True:
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      holder = os.read(file, 64).decode(errors="replace").strip()
      os.close(file)
      raise UserError(
        f"is in use by the process {holder or 'that has just begun'}: wait until it ends, or give another --model_dir",
        path.parent,
      ) from None
    except OSError as e:
      os.close(file)
      say(f"{path.parent} cannot be locked ({e.strerror}): see that no other process works there")
      return None
    if _same(file, path):
      os.truncate(file, 0)
      os.write(file, f"{os.getpid()}\n".encode())
      return file
    os.close(file)  # its holder removed it between our opening and our locking


def _same(file: int, path: pathlib.Path) -> bool:
  try:
    return os.path.samestat(os.fstat(file), os.stat(path))
  except FileNotFoundError:
    return False
