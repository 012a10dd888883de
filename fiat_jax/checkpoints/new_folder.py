"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fiat_jax.errors import UserError


def refuse_taken(folder: str | os.PathLike[str]) -> None:
  """Raises UserError where there is something already, be it not an empty folder."""
  final = Path(folder)
  if final.exists() and (not final.is_dir() or any(final.iterdir())):
    raise UserError("is there already: give another folder, or remove it", final)


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
  """Gives an empty folder beside it to write into, which gets its name at the end.

  Raises:
    UserError: there is something already.
  """
  final = Path(folder)
  refuse_taken(final)
  partial = final.with_name(final.name + ".partial")
  shutil.rmtree(partial, ignore_errors=True)
  partial.mkdir(parents=True)
  yield partial
  partial.rename(final)
