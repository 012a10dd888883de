"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import pathlib
from collections.abc import Iterator
from typing import TextIO

from fiat_jax import processes


def write_whole(path: pathlib.Path, text: str) -> None:
  """Writes a file beside its place and moves it there, so that no half of one is ever seen.

  Of several processes that work together the first does it for all.
  """
  if processes.first():
    with writing(path) as file:
      file.write(text)


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
