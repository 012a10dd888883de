"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import stat
from collections.abc import Iterator
from typing import Any, TextIO

from fiat_jax import processes
from fiat_jax.errors import UserError


def refuse_unwritable(path: pathlib.Path, *, folder: bool = False) -> None:
  """Asks before any work whether OUTPUT, a file or a `folder`, can be written after it; makes nothing.

  Raises:
    UserError: something else lies in its place or on the way there, or nothing may be written there.
  """
  whole = path.absolute()
  for place in (whole, *whole.parents):
    try:
      mode = place.stat().st_mode
    except FileNotFoundError:
      continue
    except OSError as e:  # below a file, or of too long a name
      raise UserError(f"cannot be written ({e.strerror}): give another --output", path) from None
    file = place == whole and not folder
    if not (stat.S_ISREG(mode) if file else stat.S_ISDIR(mode)):
      raise UserError(f"is there already and is no {'file' if file else 'folder'}: give another --output", place)
    if not os.access(place, os.W_OK):
      raise UserError("may not be written to: give another --output", place)
    return


def write_whole(path: pathlib.Path, text: str) -> None:
  """Writes a file beside its place and moves it there, so that no half of one is ever seen.

  Of several processes that work together the first does it for all.
  """
  if processes.first():
    with writing(path) as file:
      file.write(text)


def read_result(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object that a command wrote when it was done.

  Raises:
    UserError: it is missing, cannot be read or is none.
  """
  with _naming(path):
    return _object(path.read_text(encoding="utf-8"))


def read_records(path: pathlib.Path) -> list[dict[str, Any]]:
  """The JSON object in each line of a file that a run wrote.

  Raises:
    UserError: it is missing or cannot be read, or a line is none.
  """
  with _naming(path), open(path, encoding="utf-8") as file:  # not `splitlines`: a text may hold other separators
    return [_object(line) for line in file]


def _object(text: str) -> dict[str, Any]:
  if not isinstance(found := json.loads(text), dict):
    raise ValueError("no object")
  return found


@contextlib.contextmanager
def _naming(path: pathlib.Path) -> Iterator[None]:
  """Says what a user can do about a file of a run that cannot be read."""
  try:
    yield
  except FileNotFoundError:
    raise UserError("is missing: run the command that writes it again", path) from None
  except (OSError, ValueError, RecursionError) as e:
    hint = "delete it and the results.json of its run, and the run's command writes them again"
    raise UserError(f"cannot be read ({type(e).__name__}): {hint}", path) from None


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[TextIO]:
  """A file to write to, which is moved to its place at the end; after an exception nothing has changed."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + ".partial")
  try:
    with open(partial, "w", encoding="utf-8") as file:
      yield file
    os.replace(partial, path)
  except BaseException:
    partial.unlink(missing_ok=True)
    raise
