"""Files of rows in every format: the same records, and faults named by the line where the record begins."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from fiat_jax.data.rows import Layout, Row, read_rows
from fiat_jax.data.tables import records
from fiat_jax.errors import UserError

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"), min_size=1)
TABLE = st.lists(
  st.fixed_dictionaries({"input": CELL, "target": CELL.filter(str.strip), "lang": CELL | st.none()}),
  min_size=1,
  max_size=4,
).map(lambda rows: [{"id": f"row {n}", **row} for n, row in enumerate(rows)])
RAW = st.binary() | st.text('input,target\n"; \t[]{}:').map(str.encode)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
  if path.suffix == ".parquet":
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
  elif path.suffix == ".json":
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False), encoding="utf-8")
  elif path.suffix == ".jsonl":
    path.write_text("\n".join(map(json.dumps, rows)))
  else:
    with open(path, "w", newline="", encoding="utf-8") as f:
      writer = csv.DictWriter(f, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
      writer.writeheader()
      writer.writerows(rows)
  return path


def content(row: Row) -> tuple:
  return row.id, row.x, row.targets, row.lang, row.group


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=TABLE)
def test_every_format_gives_the_same_rows(tmp_path: Path, rows: list[dict[str, Any]]):
  jsonl, *others = (
    [content(row) for row in read_rows(str(write(tmp_path / f"rows{suffix}", rows)), Layout())]
    for suffix in (".jsonl", ".json", ".csv", ".tsv", ".parquet")
  )
  assert all(other == jsonl for other in others)


def test_a_record_has_the_line_where_it_begins(tmp_path: Path):
  table = tmp_path / "rows.csv"
  table.write_bytes(b'\xef\xbb\xbfinput, target\r\n"a\r\nb",1\r\n\r\nc,\r\n')
  assert list(records(table)) == [(2, {"input": "a\r\nb", "target": "1"}), (5, {"input": "c", "target": None})]
  array = tmp_path / "rows.json"
  array.write_text('\n[ {"input": "a"},\n\n {"input":\n "b"}\n]\n')
  assert list(records(array)) == [(2, {"input": "a"}), (4, {"input": "b"})]
  array.write_text('{"input": "a"}\n{"input": "b"}\n')
  assert [line for line, _ in records(array)] == [1, 2]


FAULTS = {
  "ragged.csv": (b'input,target\na,b\n"q\nr",b,c\n', ":3: the row has 3 cells, the header 2"),
  "twice.csv": (b"input,input\n", ":1: two columns are named 'input'"),
  "nameless.tsv": (b"\tinput\n", ":1: column 1 has no name"),
  "bytes.csv": (b"input,target\na,b\ncaf\xe9,b\n", ":3: is not UTF-8 text"),
  "nul.csv": (b"input,target\na\0,b\n", ":2: holds a NUL byte"),
  "open.csv": (b'input,target\na,b\n"c,d\ne,f\n', ":3: the row cannot be read (a quote is opened and never closed"),
  "quote.csv": (b'input,target\n"a"b,c\n', ":2: the row cannot be read (a quote closes before the cell ends"),
  "semicolons.tsv": (b"input;target\na;b\n", ":1: the header's columns are separated by semicolons: tabs are expected"),
  "semicolons.csv": (
    b"input;target\na;b;c\n",
    ":2: the row has 3 cells, the header 2: put a cell that holds a semi",
  ),
  "tabs.csv": (b"input\ttarget\na\tb\n", ":1: the header's columns are separated by tabs: commas are expected"),
  "empty_cell.csv": (b"input,target\n,b\n", ":2: the field 'input' holds a null or is an empty cell"),
  "no_rows.csv": (b"input,target\n", ": there are no rows in it"),
  "torn.json": (b'[{"input": "a", "target": "b"},\n{"inp', ":2: is no JSON"),
  "comma.json": (b'[{"input": "a", "target": "b"}\n{"input": "c"}]', ":2: is no JSON (Expecting ','"),
  "open.json": (b'[{"input": "a", "target": "b"},\n', ":2: is no JSON"),
  "more.json": (b'[{"input": "a", "target": "b"}]\n7', ":2: holds something after the array's end"),
  "numbers.json": (b"[1]", ":1: holds a JSON number"),
  "broken.parquet": (b"PAR1", ": is no Parquet file that can be read"),
  "sheet.xlsx": (b"PK", ": is a spreadsheet: save it as CSV"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_by_file_and_line(tmp_path: Path, name: str):
  raw, message = FAULTS[name]
  (tmp_path / name).write_bytes(raw)
  with pytest.raises(UserError) as e:
    read_rows(str(tmp_path / name), Layout())
  assert str(e.value).startswith(f"{tmp_path / name}{message}") and "\n" not in str(e.value)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
  raw=st.binary() | st.text('input,target\n"; \t[]{}:').map(str.encode), suffix=st.sampled_from(["csv", "tsv", "json"])
)
def test_any_bytes_are_rows_or_a_user_error(tmp_path: Path, raw: bytes, suffix: str):
  path = tmp_path / f"rows.{suffix}"
  path.write_bytes(raw)
  try:
    assert read_rows(str(path), Layout())
  except UserError as e:
    assert str(e).startswith(str(path)) and "\n" not in str(e)


def test_semicolons_separate_a_csv_whose_header_has_no_comma(tmp_path: Path):
  table = tmp_path / "rows.csv"
  table.write_text('\n"input";"target"\n"a; b";1,5\n')
  assert list(records(table)) == [(3, {"input": "a; b", "target": "1,5"})]


def test_bytes_that_are_no_text_matter_only_where_a_row_is_made_of_them(tmp_path: Path):
  path = str(write(tmp_path / "rows.parquet", [{"input": "q", "target": "t", "picture": b"\xff\xd8"}]))
  assert read_rows(path, Layout())[0].x == "q"
  with pytest.raises(UserError, match=r":1: the field 'picture' holds a binary value, not text: leave it out"):
    read_rows(path, Layout(input="{input} {picture}"))


def test_a_time_that_python_has_no_room_for_names_its_column(tmp_path: Path):
  times = pyarrow.array([2**62], pyarrow.timestamp("us"))
  parquet.write_table(pyarrow.table({"input": ["q"], "target": ["t"], "when": times}), tmp_path / "rows.parquet")
  with pytest.raises(UserError, match=r"rows\.parquet: the column 'when' holds a time that Python has no room for"):
    list(records(tmp_path / "rows.parquet"))


def test_the_index_of_pandas_is_no_part_of_x_but_may_name_rows(tmp_path: Path):
  path = str(write(tmp_path / "rows.parquet", [{"question": "q", "target": "t", "__index_level_0__": 7}]))
  assert read_rows(path, Layout())[0].x == "question: q"
  assert read_rows(path, Layout(id="__index_level_0__"))[0].id == "7"


def test_parquet_numbers_count_as_text_and_lists_as_targets(tmp_path: Path):
  rows = [
    {"n": 1, "half": 0.5, "yes": True, "target": ["a", "b"]},
    {"n": 2, "half": None, "yes": False, "target": ["c"]},
  ]
  first, second = read_rows(str(write(tmp_path / "rows.parquet", rows)), Layout())
  assert (first.x, first.targets, first.line) == ("n: 1\nhalf: 0.5\nyes: True", ("a", "b"), 1)
  assert second.x == "n: 2\nyes: False"


def test_a_named_column_that_no_row_has_suggests_the_nearest(tmp_path: Path):
  path = str(write(tmp_path / "rows.csv", [{"input": "q", "target": "t", "language": "English"}]))
  with pytest.raises(UserError, match=r"no row has the column 'langauge' that --lang names .*did you mean language"):
    read_rows(path, Layout(lang="langauge"))
  assert read_rows(path, Layout(lang="language"))[0].lang == "en"
  assert read_rows(path, Layout())[0].lang == "und"
