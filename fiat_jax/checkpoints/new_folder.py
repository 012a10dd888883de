"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from fiat_jax.errors import UserError

MARGIN = 16 << 20  # bytes, for what is small


def refuse_taken(folder: str | os.PathLike[str]) -> None:
  """Raises UserError where there is something already, be it not an empty folder."""
  final = Path(folder)
  if final.exists() and (not final.is_dir() or any(final.iterdir())):
    raise UserError("is there already: give another folder, or remove it", final)


def refuse_small(folder: str | os.PathLike[str], wanted: int) -> None:
  """Raises UserError where the disk has not so many bytes free, and `MARGIN` more."""
  place = Path(folder).absolute()
  while not place.exists():
    place = place.parent
  free = shutil.disk_usage(place).free
  if free < wanted + MARGIN:
    raise UserError(
      f"the disk has {free / 2**30:.2f} GiB free, and this takes {wanted / 2**30:.2f}: make room, or give another "
      "folder",
      folder,
    )


@contextlib.contextmanager
def new_folder(folder: str | os.PathLike[str], wanted: int = 0) -> Iterator[Path]:
  """Gives an empty folder beside it to write into, which gets its name at the end.

  Args:
    wanted: how many bytes will be written, as far as that is known.

  Raises:
    UserError: there is something already, or too little room.
  """
  final = Path(folder).absolute()
  refuse_taken(final)
  refuse_small(final, wanted)
  partial = final.with_name(final.name + ".partial")
  shutil.rmtree(partial, ignore_errors=True)
  try:
    partial.mkdir(parents=True)
  except OSError as e:
    raise UserError(f"cannot be made ({e.strerror}): give another folder", final) from None
  try:
    yield partial
    partial.rename(final)
  except BaseException:  # a full disk is not left full of what is of no use
    shutil.rmtree(partial, ignore_errors=True)
    raise
