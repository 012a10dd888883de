"""The rows of a user's files, each checked as `row.py` says. Formats are read in `tables.py`.

What is read is named by a path, which may end in a slice, `rows.jsonl[:512]`, and in one split of what stands before
it, `my.csv[test of train=0.7,validation=0.1,test=0.2 seed 0]` (`splits.py`), and last by the file
whose reasoning they come with (`reasoned.py`).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import os
import pathlib
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import numpy as np

from fiat_jax import prompts
from fiat_jax.data import layouts, reasoned, splits
from fiat_jax.data.row import Layout as Layout
from fiat_jax.data.row import Row as Row
from fiat_jax.data.row import row_of
from fiat_jax.data.spilled import Spilled
from fiat_jax.data.tables import open_file, records
from fiat_jax.errors import UserError
from fiat_jax.resources import cache_folder

SLICE = re.compile(r"^(?P<path>.*)\[(?P<start>\d*):(?P<stop>\d*)\]$", re.DOTALL)
NO_SLICE = re.compile(r"\[[-\d:]*\]$")  # what other programs take for one
LARGE = 2**26  # bytes of a file whose checked rows are kept
FORMAT = 2  # of what is kept: raise it when a row holds something else
OPTIONAL = ("lang", "group", "id", "reasoning")  # columns that rows need not have


def locate(path: str) -> tuple[pathlib.Path, slice]:
  """The file that `path` names and the rows wanted of it: `rows.jsonl[:512]` is the first 512; a split is left out.

  Raises:
    UserError: what stands behind the file is no slice such as this one.
  """
  bare, reasoning = reasoned.parse(path)
  if reasoning:
    return locate(bare)
  whole = splits.root(path)
  match = SLICE.match(whole)
  if not match:
    if (other := NO_SLICE.search(whole)) and not os.path.exists(whole):
      raise UserError(f"{other[0]} is no slice: write [N:M], [N:] or [:M], rows counted from 0 and M left out", whole)
    return pathlib.Path(whole), slice(None)
  bounds = [(int(n) if len(n) < 19 else sys.maxsize) if n else None for n in (match["start"], match["stop"])]
  return pathlib.Path(match["path"]), slice(*bounds)


def read_rows(path: str, layout: Layout, *, labelled: bool = True) -> Spilled[Row]:
  """All rows that `path` names, checked; not `labelled`, they need no target. They lie on the disk, not in memory.

  Those of a large file are kept in the cache, so that the next command need not read and check them again.

  Raises:
    UserError: the file is missing, empty or broken, a field is absent or no text, an id stands twice.
  """
  with open_file(locate(path)[0]) as handle:
    large = os.fstat(handle.fileno()).st_size >= LARGE
  if not large:
    return _read(path, layout, labelled)
  parts = [digest(path), dataclasses.asdict(layout), labelled, FORMAT]
  folder = cache_folder("checked") / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]
  if not folder.is_dir():
    _read(path, layout, labelled).keep(folder)
  return Spilled.opened(folder, _decoded)


def _read(path: str, layout: Layout, labelled: bool) -> Spilled[Row]:
  bare, reasoning = reasoned.parse(path)
  if reasoning:
    return _spilled(reasoning.join(iter_rows(bare, layout, labelled=labelled)))
  whole, split = splits.parse(path)
  if split is None:
    return _spilled(_checked_rows(whole, layout, labelled))
  rows, dealt = _dealt(whole, layout, labelled, split.shares, split.seed, digest(whole))
  return rows.take(np.flatnonzero(np.isin(dealt, split.names)))


def iter_rows(path: str, layout: Layout, *, labelled: bool = True) -> Iterator[Row]:
  """As `read_rows`, one row after another, each as soon as it is checked; those of a split once all are."""
  bare, reasoning = reasoned.parse(path)
  if reasoning:
    yield from reasoning.join(iter_rows(bare, layout, labelled=labelled))
    return
  whole, split = splits.parse(path)
  yield from _checked_rows(whole, layout, labelled) if split is None else read_rows(path, layout, labelled=labelled)


def digest(path: str) -> str:
  """SHA-256 of the file's bytes, of the slice and of the split asked for, and of the reasoning."""
  path, reasoning = reasoned.parse(path)
  if reasoned.parse(path)[1]:  # in another form
    return hashlib.sha256(f"{digest(path)}{reasoning and reasoning.digest()}".encode()).hexdigest()
  whole, split = splits.parse(path)
  if splits.parse(whole)[1]:
    return hashlib.sha256(f"{digest(whole)}{split}{reasoning.digest() if reasoning else ''}".encode()).hexdigest()
  file, wanted = locate(path)
  with open_file(file) as handle:
    now = os.fstat(handle.fileno())
    content = _hash(handle.name, (now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)).copy()
  content.update(f"[{wanted.start}:{wanted.stop}]{split or ''}{reasoning.digest() if reasoning else ''}".encode())
  return content.hexdigest()


@functools.lru_cache(maxsize=64)  # a command asks often, and a large file takes seconds
def _hash(file: str, _state: tuple[int, ...]) -> Any:
  """The SHA-256 of a file's bytes, to go on with."""
  with open(file, "rb") as handle:
    return hashlib.file_digest(handle, "sha256")


@functools.lru_cache(maxsize=2)  # the splits of one file, and those of one of them, are asked for one after another
def _dealt(
  path: str, layout: Layout, labelled: bool, shares: tuple[tuple[str, float], ...], seed: int, _digest: str
) -> tuple[Spilled[Row], np.ndarray]:
  """All rows, and the name of the split of each."""
  rows = _read(path, layout, labelled)
  return rows, np.array(splits.deal(rows, dict(shares), seed, locate(path)[0]))


def _spilled(rows: Iterable[Row]) -> Spilled[Row]:
  return Spilled.write(rows, _encoded, _decoded)


def _encoded(row: Row) -> bytes:
  return json.dumps(list(vars(row).values()), ensure_ascii=False).encode()


def _decoded(text: bytes) -> Row:
  identity, lang, group, x, targets, reasoning, labels, line, fields = json.loads(text)
  return Row(
    id=identity,
    lang=lang,
    group=group,
    x=x,
    targets=tuple(targets),
    reasoning=reasoning,
    labels=tuple(labels),
    line=line,
    fields=fields,
  )


def _checked_rows(path: str, layout: Layout, labelled: bool) -> Iterator[Row]:
  file, wanted = locate(path)
  seen: dict[str, int] = {}
  columns: set[str] = set()
  found = itertools.islice(records(file), wanted.start, wanted.stop)
  for line, record in layouts.recognised(found, layout, file, labelled):
    columns.update(record)
    row = row_of(record, layout, file, line, labelled)
    if row.id in seen:
      where = f"stands on line {seen[row.id]} already"
      if record.get(layout.id):
        raise UserError(f"the id {row.id!r} {where}: ids must differ", file, line)
      raise UserError(f"the same row {where}: remove one, or tell them apart by a field {layout.id!r}", file, line)
    seen[row.id] = line
    yield row
  if not seen:
    raise UserError("there are no rows in it: an object or a line a row is expected", path)
  if labelled:
    _require_columns(layout, columns, file)


def _require_columns(layout: Layout, columns: Collection[str], file: pathlib.Path) -> None:
  """A column that may be absent is there all the same where it was named."""
  for flag in OPTIONAL:
    name = getattr(layout, flag)
    if name != flag and name not in columns:
      raise UserError(f"no row has the column {name!r} that --{flag} names ({prompts.nearest(name, columns)})", file)
