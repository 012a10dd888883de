"""Where the files that ship with the package lie, and where reusable results are kept."""

from __future__ import annotations

import os
import pathlib

from fiat_jax.errors import UserError

_PACKAGE = pathlib.Path(__file__).parent


def shipped(name: str) -> pathlib.Path:
  """A folder that ships with the project, `gin` or `tasks`: beside the package in a checkout, inside it in a wheel."""
  inside = _PACKAGE / name
  return inside if inside.is_dir() else _PACKAGE.parent / name


def find(path: str) -> str:
  """`path` as given, or, where that does not exist and it begins with `gin/` or `tasks/`, the shipped file."""
  top, _, rest = path.partition("/")
  file = path.split("[")[0]
  if top in ("gin", "tasks") and rest and not os.path.exists(file):
    return str(shipped(top) / rest)
  return path


def cache_folder(name: str) -> pathlib.Path:
  """A folder for what can be made again: under `FIAT_CACHE`, or `fiat_jax` in the user's cache folder.

  Raises:
    UserError: it cannot be made.
  """
  base = os.environ.get("FIAT_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "fiat_jax"
  )
  folder = pathlib.Path(base) / name
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    message = f"the cache folder cannot be made ({e.strerror}): name another in the environment variable FIAT_CACHE"
    raise UserError(message, folder) from None
  return folder
