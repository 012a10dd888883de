"""What a checkpoint's files were when it was saved: their SHA-256, for Orbax restores flipped bits without a word.

Two lists lie in a checkpoint's folder: of what its items consist of, written before Orbax gives the folder its name, so
that no checkpoint is ever without it; and the seal, of that list and of Orbax's own notes, which are finished last.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import pathlib
from collections.abc import Sequence

from fiat_jax.whole import writing

ITEMS, SEAL = "sha256.txt", "sha256_seal.txt"
READERS = 4


def write(folder: pathlib.Path) -> None:
  """Lists the files of a checkpoint's items."""
  with writing(folder / ITEMS) as file:
    file.write(_text(folder, _of_items(folder)))


def seal(folder: pathlib.Path) -> None:
  """Lists what lies beside the items, once, when nothing is to be added."""
  if not (folder / SEAL).exists():
    text = _text(folder, _beside(folder))
    with writing(folder / SEAL) as file:
      file.write(text)


def fault(folder: pathlib.Path) -> str:
  """What is not as it was saved; empty where all is.

  The lists are made again and have to be the same to the letter, so that they vouch for themselves. One that was never
  sealed, for its process was killed, is judged by its items.
  """
  if not (folder / ITEMS).exists():
    return f"it has no {ITEMS}"
  sealed = (folder / SEAL).exists()
  for name, files in ((SEAL, _beside(folder)), (ITEMS, _of_items(folder)))[not sealed :]:
    found, listed = _text(folder, files), (folder / name).read_bytes()
    if found.encode() != listed:
      return f"{_first_other(found.splitlines(), listed.decode(errors='replace').splitlines(), name)} is not as saved"
  return ""


def _of_items(folder: pathlib.Path) -> list[pathlib.Path]:
  return [path for path in folder.rglob("*") if path.is_file() and path.parent != folder]


def _beside(folder: pathlib.Path) -> list[pathlib.Path]:
  return [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(SEAL)]


def _text(folder: pathlib.Path, files: Sequence[pathlib.Path]) -> str:
  """A line for each file, as `sha256sum` writes and checks them."""
  files = sorted(files)
  with concurrent.futures.ThreadPoolExecutor(READERS) as pool:
    return "".join(
      f"{digest}  {path.relative_to(folder).as_posix()}\n"
      for path, digest in zip(files, pool.map(_digest, files), strict=True)
    )


def _digest(path: pathlib.Path) -> str:
  with open(path, "rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def _first_other(found: Sequence[str], listed: Sequence[str], name: str) -> str:
  """The file that the first line that differs is about; the list itself where it is no such line."""
  other = next(
    iter([line for line in found if line not in listed] or [line for line in listed if line not in found]), ""
  )
  return other.partition("  ")[2] or name
