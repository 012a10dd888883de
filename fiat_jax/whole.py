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
    UserError: it cannot be read or is none.
  """
  try:
    found = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as e:
    fault = type(e).__name__
  else:
    if isinstance(found, dict):
      return found
    fault = "no object"
  raise UserError(f"cannot be read ({fault}): delete it, and the command that wrote it writes it again", path)


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
