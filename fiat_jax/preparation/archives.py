"""Unpacking what was downloaded: only the files that are wanted, never outside the folder, never more than a limit."""

from __future__ import annotations

import pathlib
import re
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO

from fiat_jax import shortage
from fiat_jax.errors import UserError

SUFFIXES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
CHUNK = 2**20
MOST_MEMBERS = 200_000
BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)


def is_archive(file: pathlib.Path) -> bool:
  return file.name.lower().endswith(SUFFIXES)


def unpack(archive: pathlib.Path, wanted: str, folder: pathlib.Path, limit: int) -> int:
  """Writes the members whose path ends in what `wanted` matches into `folder`; returns how many.

  Raises:
    UserError: it is no archive or a broken one, a wanted member leads out of the folder or is no plain file, there are
      more bytes than `limit`, whatever its headers say.
  """
  pattern, written, count = re.compile(rf"(?:^|/)(?:{wanted})$"), 0, 0
  try:
    for name, plain, stream in _members(archive, pattern):
      place = _place(name, folder, archive)
      if not plain or stream is None:
        raise UserError(f"the member {name!r} is a link or a device, not a file: it is not unpacked", archive)
      place.parent.mkdir(parents=True, exist_ok=True)
      with stream, place.open("wb") as file:
        while chunk := stream.read(CHUNK):
          written += len(chunk)
          if written > limit:
            raise UserError(f"unpacks to more than {limit:,} bytes: it is not what the set publishes", archive)
          file.write(chunk)
      count += 1
  except BROKEN as e:
    if shortage.disk_full(e):
      raise
    reason = " ".join(str(e).split())[:120]
    reason = "neither zip nor tar" if reason.startswith("file could not be opened") else reason
    raise UserError(f"is no archive that can be read ({reason or type(e).__name__}): fetch it again", archive) from None
  return count


def _members(archive: pathlib.Path, pattern: re.Pattern[str]) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
  """Name, whether it is a plain file, and content of every member wanted."""
  if zipfile.is_zipfile(archive):  # whatever a file that was fetched by hand is called
    with zipfile.ZipFile(archive) as packed:
      for entry in _few(packed.infolist(), archive):
        kind = entry.external_attr >> 16 & 0o170000  # of Unix; 0 where another system packed it
        if not entry.is_dir() and pattern.search(entry.filename):
          yield entry.filename, kind in (0, 0o100000), packed.open(entry)
    return
  with tarfile.open(archive, "r:*") as packed:
    for entry in _few(packed, archive):
      if not entry.isdir() and pattern.search(entry.name):
        yield entry.name, entry.isreg(), packed.extractfile(entry) if entry.isreg() else None


def _few(members, archive: pathlib.Path):
  for number, member in enumerate(members):
    if number >= MOST_MEMBERS:
      raise UserError(f"has more than {MOST_MEMBERS:,} members: it is not what the set publishes", archive)
    yield member


def _place(name: str, folder: pathlib.Path, archive: pathlib.Path) -> pathlib.Path:
  parts = name.split("/")
  bad = name.startswith("/") or "\\" in name or "\0" in name or ".." in parts or re.match(r"[A-Za-z]:", name)
  place = folder.joinpath(*(part for part in parts if part not in ("", ".")))
  if bad or not place.resolve().is_relative_to(folder.resolve()):
    raise UserError(f"the member {name!r} leads out of the folder: the archive is not to be trusted", archive)
  return place
