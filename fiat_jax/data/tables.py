"""The records of a file, whatever its format: JSON lines, a JSON array, CSV, TSV, Parquet. What they mean: `rows.py`.

A record is a mapping of column names to JSON values, and comes with the line where it begins (in Parquet: the number of
its row). CSV and TSV hold text alone, and an empty cell is a null. In Parquet, numbers, truth values and dates count as
the text that Python prints of them, NaN as a null: columns have types there that nobody chose.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from fiat_jax.data import sources
from fiat_jax.errors import UserError

Record = tuple[int, dict[str, Any]]

HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # JSON may spell half a character, which no tokenizer takes
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
SEPARATORS = {"\t": "tab", ";": "semicolon", ",": "comma"}
BATCH_ROWS = 1024


def records(file: pathlib.Path) -> Iterator[Record]:
  """Reads `.json`, `.csv`, `.tsv` and `.parquet` as what they are called, everything else as JSON lines.

  Raises:
    UserError: the file is missing or broken; where, and what to do.
  """
  with open_file(file) as handle:
    suffix = pathlib.Path(handle.name).suffix.lower()
    if suffix == ".json":
      yield from _json(handle, file)
    elif suffix in (".csv", ".tsv"):
      yield from _separated(handle, file, "\t" if suffix == ".tsv" else _separator(handle, file))
    elif suffix == ".parquet":
      yield from _parquet(handle, file)
    else:
      yield from _json_lines(handle, file)


def open_file(file: pathlib.Path) -> io.BufferedReader:
  """Opens a file, or what was fetched of a data set. Raises UserError where it cannot be read."""
  if file.suffix.lower() in SPREADSHEETS:
    raise UserError("is a spreadsheet: save it as CSV", file)
  real = sources.fetch(file)
  try:
    return open(real, "rb")
  except (OSError, ValueError) as e:  # a NUL in a name is a ValueError
    reason = os.strerror(e.errno or 0) if isinstance(e, OSError) else str(e)
    message = f"cannot be read ({reason}): give the path of a JSONL, JSON, CSV, TSV or Parquet file"
    raise UserError(message, file) from None


def kind(value: Any) -> str:
  """What JSON calls a value."""
  names = {list: "list", dict: "object", bool: "truth value", int: "number", float: "number", type(None): "null"}
  names |= {bytes: "binary value"}
  return names.get(type(value), type(value).__name__)


def _lines(handle: io.BufferedReader, file: pathlib.Path) -> Iterator[tuple[int, str]]:
  for number, raw in enumerate(handle, 1):
    try:
      yield number, raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as e:
      raise UserError(f"is not UTF-8 text (byte {e.start} of the line): save the file as UTF-8", file, number) from None


def _json_lines(handle: io.BufferedReader, file: pathlib.Path) -> Iterator[Record]:
  for number, text in _lines(handle, file):
    if not text.strip():
      continue
    try:
      record = json.loads(text)
    except (ValueError, RecursionError) as e:
      raise UserError(f"is no JSON ({_reason(e)}): one whole object a line is expected", file, number) from None
    yield number, _checked(record, text, file, number)


def _json(handle: io.BufferedReader, file: pathlib.Path) -> Iterator[Record]:
  """An array of objects, each with the line where it begins; without a bracket at the start, JSON lines."""
  text = "".join(line for _, line in _lines(handle, file))
  if not text.lstrip().startswith("["):
    handle.seek(0)
    yield from _json_lines(handle, file)
    return
  decoder, blank = json.JSONDecoder(), re.compile(r"[ \t\r\n]*")
  place, line, counted = text.index("[") + 1, 1, 0

  def skip() -> str:
    nonlocal place, line, counted
    place = blank.match(text, place).end()  # pyright: ignore[reportOptionalMemberAccess]  it matches nothing, too
    line, counted = line + text.count("\n", counted, place), place
    return text[place : place + 1]

  separator = skip()
  while separator != "]":
    try:
      record, end = decoder.raw_decode(text, place)
    except (ValueError, RecursionError) as e:
      raise UserError(f"is no JSON ({_reason(e)}): an array of objects is expected", file, line) from None
    yield line, _checked(record, text[place:end], file, line)
    place = end
    separator = skip()
    if separator not in ("]", ","):
      raise UserError("is no JSON (Expecting ',' or ']' after an object): an array of objects is expected", file, line)
    if separator == ",":
      place += 1
      skip()
  place += 1
  if skip():
    raise UserError("holds something after the array's end: one array of objects is expected", file, line)


def _checked(record: Any, text: str, file: pathlib.Path, line: int) -> dict[str, Any]:
  if not isinstance(record, dict):
    raise UserError(f"holds a JSON {kind(record)}, not an object with named fields", file, line)
  if HALF_PAIR.search(text):
    try:
      json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:
      message = "holds half a surrogate pair (\\ud800 to \\udfff): write whole characters"
      raise UserError(message, file, line) from None
  return record


def _reason(error: ValueError | RecursionError) -> str:
  return getattr(error, "msg", "a number too long") if isinstance(error, ValueError) else "nested too deeply"


def _separator(handle: io.BufferedReader, file: pathlib.Path) -> str:
  """What separates the cells of a `.csv`: spreadsheets write semicolons where a comma stands in numbers."""
  header = next((text for _, text in _lines(handle, file) if text.strip()), "")
  handle.seek(0)
  return ";" if ";" in header and "," not in header else ","


def _separated(handle: io.BufferedReader, file: pathlib.Path, delimiter: str) -> Iterator[Record]:
  begun = last = 0

  def texts() -> Iterator[str]:
    nonlocal last
    for last, text in _lines(handle, file):
      if "\0" in text:
        raise UserError("holds a NUL byte: save the file as UTF-8 text", file, last)
      yield text

  csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the module's own limit of 128 KiB cuts no passage
  cells, header = csv.reader(texts(), delimiter=delimiter, strict=True), None
  while True:
    begun = last + 1
    try:
      row = next(cells, None)
    except csv.Error as e:
      raise UserError(f"the row cannot be read ({_csv_reason(str(e))})", file, begun) from None
    if row is None:
      return
    if not row:
      continue
    if header is None:
      header = _header(row, file, begun, delimiter)
    elif len(row) != len(header):
      raise UserError(
        f"the row has {len(row)} cells, the header {len(header)}: put a cell that holds a {SEPARATORS[delimiter]} or a "
        "new line in quotes",
        file,
        begun,
      )
    else:
      yield begun, {name: cell or None for name, cell in zip(header, row, strict=True)}


def _header(row: Sequence[str], file: pathlib.Path, line: int, delimiter: str) -> list[str]:
  names = [name.strip() for name in row]
  other = next((c for c in ";\t," if c != delimiter and len(row) == 1 and c in row[0]), None)
  if other:
    wanted = f"{SEPARATORS[delimiter]}s are expected, or the name {'x.tsv' if other == chr(9) else 'x.csv'}"
    raise UserError(f"the header's columns are separated by {SEPARATORS[other]}s: {wanted}", file, line)
  _refuse_names(names, file, line)
  return names


def _refuse_names(names: Sequence[str], file: pathlib.Path, line: int) -> None:
  for number, name in enumerate(names, 1):
    if not name:
      raise UserError(f"column {number} has no name: name it, or leave it out", file, line)
    if name in names[: number - 1]:
      raise UserError(f"two columns are named {name!r}: rename one", file, line)


def _csv_reason(text: str) -> str:
  if "unexpected end" in text:
    return "a quote is opened and never closed: close it, or double the quotes that are meant as text"
  if "expected after" in text:
    return "a quote closes before the cell ends: double the quotes that are meant as text"
  if "new-line" in text:
    return "its lines end in a bare carriage return: save the file with Unix or Windows line ends"
  return text


def _parquet(handle: io.BufferedReader, file: pathlib.Path) -> Iterator[Record]:
  import pyarrow
  from pyarrow import parquet

  try:
    table = parquet.ParquetFile(handle)
    _refuse_names(table.schema_arrow.names, file, 1)
    number = 0
    for batch in table.iter_batches(BATCH_ROWS):
      for record in _records_of(batch, file):
        number += 1
        yield number, {name: _plain(value) for name, value in record.items()}
  except (pyarrow.ArrowException, OSError, ValueError) as e:
    reason = str(e).strip().splitlines()[0][:120] if str(e).strip() else type(e).__name__
    raise UserError(f"is no Parquet file that can be read ({reason}): write it again", file) from None


def _records_of(batch: Any, file: pathlib.Path) -> list[dict[str, Any]]:
  try:
    return batch.to_pylist()
  except OverflowError:
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
      try:
        column.to_pylist()
      except OverflowError:
        message = f"the column {name!r} holds a time that Python has no room for: write it as text, or leave it out"
        raise UserError(message, file) from None
    raise


def _plain(value: Any) -> Any:
  """A Parquet value as JSON has it, everything that is no text as the text that Python prints of it.

  Bytes that are no text stay bytes: they are refused where a row is made of them.
  """
  if value is None or isinstance(value, str) or (isinstance(value, float) and math.isnan(value)):
    return value if isinstance(value, str) else None
  if isinstance(value, (list, tuple)):
    return [_plain(item) for item in value]
  if isinstance(value, dict):
    return {name: _plain(item) for name, item in value.items()}
  if not isinstance(value, bytes):
    return str(value)
  try:
    return value.decode()
  except UnicodeDecodeError:
    return value
