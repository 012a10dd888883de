"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import pathlib


def write_whole(path: pathlib.Path, text: str) -> None:
  """Writes a file beside its place and moves it there, so that no half of one is ever seen."""
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + ".partial")
  try:
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
  except OSError:
    partial.unlink(missing_ok=True)
    raise
