"""Rows beside the records that they are made of, with the columns that a row does not keep."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from fiat_jax.data import layouts, reasoned, splits
from fiat_jax.data.row import Layout, Row, row_of
from fiat_jax.data.rows import locate, read_rows
from fiat_jax.data.tables import records


def iter_records(path: str, layout: Layout) -> Iterator[tuple[str, dict[str, Any]]]:
  """Each row's id and its record with all its columns, as the file has them; of a split, its rows alone."""
  yield from ((row.id, record) for row, record in with_records(path, layout))


def with_records(path: str, layout: Layout) -> Iterator[tuple[Row, dict[str, Any]]]:
  """As `iter_records`, with the whole row."""
  whole, split = splits.parse(reasoned.parse(path)[0])
  file, wanted = locate(whole)
  found = itertools.islice(records(file), wanted.start, wanted.stop)
  made = layouts.recognised(found, layout, file, False, again=True)
  found_rows = ((row_of(record, layout, file, line, False), record) for line, record in made)
  if split is None:
    yield from found_rows
    return
  members = (row.id for row in read_rows(path, layout, labelled=False))
  member = next(members, None)
  for row, record in found_rows:
    if row.id == member:
      yield row, record
      member = next(members, None)
