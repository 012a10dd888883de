"""A published set as rows in a folder: `VIEW/SPLIT.jsonl`, and `prepared.json`, which says what they were made of."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, TextIO

from fiat_jax import resources, signals
from fiat_jax.errors import UserError
from fiat_jax.preparation import archives, counts, download
from fiat_jax.preparation.files import Files, whole_object
from fiat_jax.preparation.sets import Set
from fiat_jax.progress import say
from fiat_jax.whole import refuse_unwritable

MANIFEST = "prepared.json"


def prepare(
  wanted: Set,
  folder: pathlib.Path,
  given: pathlib.Path | None = None,
  *,
  sample: bool = False,
  incomplete: bool = False,
) -> dict:
  """Makes the folder, whole or not at all; returns what its `prepared.json` holds.

  Args:
    given: a file already fetched, a folder that holds the set's files, or one in which they lie unpacked; None: they
      are downloaded.
    sample: what is given is a folder of a few rows in the same format, which need not be whole. It takes no whole set's
      place.
    incomplete: languages and rows may be missing; which is told, and kept as `missing` in `prepared.json`.

  Raises:
    UserError: the files are not to be had or not what is published; why, and what to do.
  """
  refuse_unwritable(folder, folder=True)
  _refuse_to_replace(folder, sample)
  folder.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
    made = pathlib.Path(scratch) / "rows"
    with _downloads_kept_if_good(wanted, given):
      if sample and given is not None:
        sources, files = [{"given": given.name}], Files(given)
      else:
        sources, files = _files(wanted, given, pathlib.Path(scratch) / "unpacked")
      with _faults_in(files.folder, str(given or wanted.name)):
        tally = _write(wanted, files, made)
    missing = [] if sample else _missing(wanted, tally, incomplete)
    manifest = {
      "name": wanted.name,
      "title": wanted.title,
      "licence": wanted.licence,
      "home": wanted.home,
      "sample": sample,
      "sources": sources,
      "missing": missing,
      "rows": tally,
    }
    (made / MANIFEST).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if folder.exists():
      shutil.rmtree(folder)
    os.replace(made, folder)
  return manifest


def sample_folder(name: str) -> pathlib.Path:
  """The shipped sample of a set, in its source's own format."""
  return resources.shipped("tasks") / name / "sample"


def _refuse_to_replace(folder: pathlib.Path, sample: bool) -> None:
  """Raises UserError where the folder holds somebody's files, or a whole set that a sample would take the place of."""
  if not folder.exists() or not any(folder.iterdir()):
    return
  if not (folder / MANIFEST).exists():
    raise UserError("is there and was not made by fiat prepare: give another --output", folder)
  if sample and not whole_object(folder / MANIFEST).get("sample"):
    raise UserError("holds the set itself, which its sample does not replace: give another --output", folder)


def _missing(wanted: Set, tally: counts.Counts, incomplete: bool) -> list[str]:
  """What is missing of the set, told. Raises UserError where that may not be."""
  if not incomplete:
    counts.check(tally, wanted.least, wanted.name)
  for line in counts.longer(tally, wanted.published):
    say(f"warning: {line}")
  if lacking := counts.missing(tally, wanted.least):
    say(f"warning: {wanted.name} is not whole: {counts.listed(lacking)}")
  return lacking


def _files(wanted: Set, given: pathlib.Path | None, unpacked: pathlib.Path) -> tuple[list[dict[str, Any]], Files]:
  """The set's files, unpacked where they are archives, and what they were."""
  if given is not None and not given.exists():
    raise UserError("is not there: give the file or folder that was fetched", given)
  names = [remote.name for remote in wanted.remotes]
  if given is not None and given.is_dir() and not any((given / name).exists() for name in names):
    return [{"given": str(given)}], Files(given)  # unpacked already
  if given is not None and given.is_file() and len(names) > 1:
    raise UserError(f"{wanted.name} has {len(names)} files, {', '.join(names)}: give the folder that holds them", given)
  sources = []
  for remote in wanted.remotes:
    if given is None:
      file = download.fetch(remote, _downloads(wanted))
    else:
      file = given if given.is_file() else given / remote.name
      if not file.exists():
        raise UserError(f"{wanted.name} needs this file too: fetch {remote.address}", file)
    sources.append({"address": remote.address, "bytes": file.stat().st_size, "sha256": download.check(remote, file)})
    if archives.is_archive(pathlib.Path(remote.name)):
      if not archives.unpack(file, wanted.wanted, unpacked, wanted.limit):
        raise UserError(f"holds none of the files of {wanted.name} ({wanted.wanted}): it is another archive", file)
    else:
      unpacked.mkdir(parents=True, exist_ok=True)
      os.symlink(file.resolve(), unpacked / remote.name)
  return sources, Files(unpacked)


def _write(wanted: Set, files: Files, folder: pathlib.Path) -> dict[str, dict[str, int]]:
  """Writes the rows; returns how many there are of each language."""
  tally = counts.Tally()
  with _open_files(folder) as open_file:
    for number, (view, split, row) in enumerate(wanted.convert(files)):
      part = f"{view}/{split}" if view else split
      open_file(part).write(json.dumps(row, ensure_ascii=False) + "\n")
      tally.add(part, row.get("lang", "en"))
      if number % 1000 == 0:
        signals.check()
  if not tally.counts:
    raise UserError(f"no row of {wanted.name} is in it: it is another version", files.folder)
  return tally.plain()


def _downloads(wanted: Set) -> pathlib.Path:
  return resources.cache_folder("downloads") / wanted.name


@contextlib.contextmanager
def _downloads_kept_if_good(wanted: Set, given: pathlib.Path | None) -> Iterator[None]:
  """What was downloaded and is not the set, a page to sign in perhaps, is not taken for it again."""
  try:
    yield
  except UserError:
    for remote in () if given else wanted.remotes:
      (_downloads(wanted) / remote.name).unlink(missing_ok=True)
    raise


@contextlib.contextmanager
def _faults_in(folder: pathlib.Path, source: str) -> Iterator[None]:
  """A fault in a file that was unpacked is told by what it came from: the folder will be gone."""
  try:
    yield
  except UserError as e:
    raise UserError(str(e).replace(str(folder), source)) from None


@contextlib.contextmanager
def _open_files(folder: pathlib.Path) -> Iterator[Any]:
  """A function that gives the open file of a part, all of which are closed at the end."""
  with contextlib.ExitStack() as stack:
    opened: dict[str, TextIO] = {}

    def open_file(part: str) -> TextIO:
      if part not in opened:
        path = folder / f"{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        opened[part] = stack.enter_context(path.open("w", encoding="utf-8"))
      return opened[part]

    yield open_file
