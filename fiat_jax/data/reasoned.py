"""Rows with the reasoning that a store keeps about them.

A file with reasoning is a path like any other: `rows.jsonl[reasoned by S/reasoning/1f….jsonl]` is the rows of
`rows.jsonl`, each with the reasoning that the named file has for its input; `[rightly reasoned by …]` is those of them
whose reasoning led to the right answer. `Settings.files()` writes such paths where there is a STORE, so that whatever
reads rows needs to know nothing of stores. The file has a line a row, of `row` (the input's key), `reasoning`, `right`,
after a first line that says what was asked of whom.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from fiat_jax.errors import UserError

if TYPE_CHECKING:
  from fiat_jax.data.rows import Row

SUFFIX = re.compile(r"^(?P<path>.*)\[(?P<right>rightly )?reasoned by (?P<file>.*)\]$", re.S)


@dataclasses.dataclass(frozen=True)
class Reasoned:
  """The file that holds the reasoning, and whether only rows with the right answer are wanted."""

  file: str
  right: bool

  def __str__(self) -> str:
    return f"{'rightly ' if self.right else ''}reasoned by {self.file}"

  def join(self, rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with their reasoning, empty where there is none; what they had of their own is left out."""
    places = _places(pathlib.Path(self.file))
    with open(self.file, "rb") as file:
      for row in rows:
        place = places.get(row_key(row.x))
        if place is not None:
          file.seek(place)
        found = {"reasoning": ""} if place is None else json.loads(file.readline())
        if not self.right or found.get("right"):
          yield dataclasses.replace(row, reasoning=found["reasoning"])

  def digest(self) -> str:
    """SHA-256 of the file, and of what is wanted of it."""
    with _opened(pathlib.Path(self.file)) as file:
      return hashlib.file_digest(file, "sha256").hexdigest() + str(self.right)


def parse(path: str) -> tuple[str, Reasoned | None]:
  """The path without its reasoning, and the reasoning."""
  match = SUFFIX.match(path)
  return (match["path"], Reasoned(match["file"], bool(match["right"]))) if match else (path, None)


def row_key(x: str) -> str:
  """What reasoning is found again by: the row's input. Rows of one input share it, whatever their ids and split."""
  return hashlib.sha256(x.encode()).hexdigest()


def _places(path: pathlib.Path) -> dict[str, int]:
  """Where each row's line begins."""
  places, place = dict[str, int](), 0
  with _opened(path) as file:
    for number, raw in enumerate(file, 1):
      if number > 1:
        try:
          places[json.loads(raw)["row"]] = place
        except (ValueError, KeyError, TypeError):
          raise UserError("is no reasoning of a row: run `fiat annotate` again to make it anew", path, number) from None
      place += len(raw)
  return places


def _opened(path: pathlib.Path):
  try:
    return open(path, "rb")
  except OSError as e:
    raise UserError(f"cannot be read ({e.strerror}): run `fiat annotate` to make it", path) from None
