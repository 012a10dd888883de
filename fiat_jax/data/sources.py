"""Where the file of a path lies: on the disk."""

from __future__ import annotations

import pathlib


def fetch(file: pathlib.Path) -> pathlib.Path:
  return file
