"""The files of a source as it publishes them, found by pattern and read with every fault named by file and line."""

from __future__ import annotations

import gzip
import itertools
import json
import pathlib
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

from fiat_jax import prompts
from fiat_jax.data.tables import kind, records
from fiat_jax.errors import UserError

MOST_PACKED = 100_000  # rows
Found = tuple[pathlib.Path, re.Match[str]]


class Record(dict[str, Any]):
  """What one row of a source holds, with its place for messages."""

  def __init__(self, content: Mapping[str, Any], file: pathlib.Path, line: int | None):
    super().__init__(content)
    self.file, self.line = file, line

  def text(self, name: str) -> str:
    """A field that must be text. Raises UserError where it is missing or something else."""
    value = self._value(name)
    if not isinstance(value, str):
      raise self.fault(f"the field {name!r} holds a {kind(value)}, not text")
    return value

  def number(self, name: str) -> int:
    """A field that must be a whole number, perhaps written as text."""
    value = self._value(name)
    if isinstance(value, str) and value.strip().isdecimal():
      return int(value)
    if type(value) is not int:
      raise self.fault(f"the field {name!r} holds {value!r}, not a whole number")
    return value

  def truth(self, name: str) -> bool:
    """A field that must be true or false, perhaps written as text."""
    value = self._value(name)
    found = {"true": True, "false": False}.get(str(value).lower())
    if found is None:
      raise self.fault(f"the field {name!r} holds {value!r}, neither true nor false")
    return found

  def texts(self, name: str) -> list[str]:
    """A field that must be a list of texts."""
    value = self._value(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
      raise self.fault(f"the field {name!r} is no list of texts")
    return value

  def inner(self, name: str) -> list[Record]:
    """A field that must be a list of objects."""
    value = self._value(name)
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
      raise self.fault(f"the field {name!r} is no list of objects")
    return [Record(item, self.file, self.line) for item in value]

  def one_of(self, name: str, known: Mapping[Any, str]) -> str:
    """What a field's value, one of those known, stands for."""
    value = self._value(name)
    if not isinstance(value, (str, int)) or value not in known:
      raise self.fault(f"the field {name!r} holds {value!r}: known are {', '.join(map(str, known))}")
    return known[value]

  def fault(self, message: str) -> UserError:
    return UserError(f"{message}: it is not the format of the set, or another version", self.file, self.line)

  def _value(self, name: str) -> Any:
    if name not in self:
      raise self.fault(f"there is no field {name!r} ({prompts.nearest(name, self)})")
    return self[name]


class Files:
  """A folder that holds a source's files under the paths that they have in its archive."""

  def __init__(self, folder: pathlib.Path):
    self.folder = folder

  def find(self, pattern: str) -> list[Found]:
    """The files whose path ends in what the pattern matches, by path.

    Raises:
      UserError: there is none.
    """
    end = re.compile(rf"(?:^|/)(?:{pattern})$")
    paths = sorted(path for path in self.folder.rglob("*") if path.is_file())
    found = [(path, match) for path in paths if (match := end.search(path.relative_to(self.folder).as_posix()))]
    if not found:
      raise UserError(f"holds no file like {pattern}: it is not the set's, or another version", self.folder)
    return found

  def only(self, pattern: str) -> pathlib.Path:
    """The one such file. Raises UserError where there are more."""
    found = self.find(pattern)
    if len(found) > 1:
      raise UserError(f"holds {len(found)} files like {pattern}: one is expected", self.folder)
    return found[0][0]


def rows(file: pathlib.Path) -> Iterator[Record]:
  """The rows of a JSONL, JSON, CSV, TSV or Parquet file."""
  for line, record in records(file):
    yield Record(record, file, line)


def packed_rows(file: pathlib.Path) -> Iterator[Record]:
  """The rows of a JSONL file, packed with gzip where it is called so. Raises UserError where it cannot be unpacked."""
  if file.suffix != ".gz":
    yield from rows(file)
    return
  try:
    with gzip.open(file, "rt", encoding="utf-8") as lines:
      for number, line in enumerate(itertools.islice(lines, MOST_PACKED), 1):
        record = json.loads(line)
        if not isinstance(record, dict):
          raise ValueError(f"line {number} holds a {kind(record)}")
        yield Record(record, file, number)
  except (OSError, EOFError, ValueError, RecursionError, zlib.error) as e:
    raise UserError(f"is no packed JSON lines that can be read ({str(e)[:100]}): fetch it again", file) from None


def whole(file: pathlib.Path) -> Any:
  """A JSON file's content. Raises UserError where it is no JSON."""
  try:
    return json.loads(file.read_text(encoding="utf-8"))
  except (OSError, ValueError, RecursionError) as e:  # UnicodeDecodeError is a ValueError
    raise UserError(f"is no JSON that can be read ({str(e)[:100]}): fetch it again", file) from None


def whole_object(file: pathlib.Path) -> Record:
  """The same of a file that must hold one object."""
  content = whole(file)
  if not isinstance(content, dict):
    raise UserError(f"holds a JSON {kind(content)}, not an object: it is not the format of the set", file)
  return Record(content, file, None)


def text_lines(file: pathlib.Path) -> Iterator[tuple[int, str]]:
  """The lines of a UTF-8 text, without their ends, from 1. Only newlines end a line."""
  try:
    lines = file.read_text(encoding="utf-8-sig").split("\n")
  except UnicodeDecodeError:
    raise UserError("is not UTF-8 text: fetch it again", file) from None
  yield from ((number, line.removesuffix("\r")) for number, line in enumerate(lines, 1) if line.strip())
