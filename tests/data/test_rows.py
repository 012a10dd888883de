"""Rows as they are read from JSONL: what is accepted, and that every fault names its file and line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fiat_jax.data import languages
from fiat_jax.data.rows import Layout, Row, digest, read_rows
from fiat_jax.errors import UserError

GOOD = {"id": "a", "input": "one", "target": "1"}
FILE = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write(folder: Path, *rows: Any, raw: bytes | None = None) -> str:
  path = folder / "rows.jsonl"
  path.write_bytes(raw if raw is not None else "".join(json.dumps(row) + "\n" for row in rows).encode())
  return str(path)


def read(folder: Path, *rows: Any, raw: Any = None, **layout: Any) -> Sequence[Row]:
  return read_rows(write(folder, *rows, raw=raw), Layout(**layout))


FAULTY_ROWS = {
  "a list": ([1], "holds a JSON list"),
  "a number": (7, "holds a JSON number"),
  "null": (None, "holds a JSON null"),
  "an id twice": (GOOD, "the id 'a' stands on line 1 already"),
  "no target": ({"input": "q"}, r"no field 'target' \(unknown; there is input\)"),
  "a near name": ({"input": "q", "targets": "t"}, "no field 'target' .*did you mean targets"),
  "null target": ({"input": "q", "target": None}, "'target' holds a null"),
  "empty target": ({"input": "q", "target": " "}, "the target 'target' is empty"),
  "empty list": ({"input": "q", "target": []}, "the target 'target' is empty"),
  "numbers as targets": ({"input": "q", "target": ["a", 1]}, "the target 'target' is empty or no text"),
  "number as target": ({"input": "q", "target": 1}, "'target' holds a number, not text"),
  "half a character": ({"input": "\ud800", "target": "a"}, "holds half a surrogate pair"),
  "list as input": ({"input": ["q"], "target": "t"}, "'input' holds a list, not text"),
  "null input": ({"input": None, "target": "t"}, "'input' holds a null or is an empty cell"),
  "truth value as id": ({"id": True, "input": "q", "target": "t"}, "'id' holds a truth value"),
}


@pytest.mark.parametrize("fault", FAULTY_ROWS)
def test_a_faulty_row_is_named_by_file_and_line(tmp_path: Path, fault: str):
  row, message = FAULTY_ROWS[fault]
  with pytest.raises(UserError, match=rf"rows\.jsonl:2: .*{message}"):
    read(tmp_path, GOOD, row)


FAULTY_LINES = {
  "torn": (b'{"input": "q", "targ', "is no JSON"),
  "no UTF-8": (b'{"input": "caf\xe9", "target": "t"}', "is not UTF-8 text \\(byte 14 of the line\\)"),
  "a number too long": (b'{"input": "q", "target": "t", "n": ' + b"1" * 5000 + b"}", "is no JSON"),
  "nested too deeply": (b"[" * 100_000, "nested too deeply"),
  "half a character": (rb'{"input": "q\ud800", "target": "t"}', "half a surrogate pair"),
  "half a character as label": (rb'{"input": "q", "target": "t", "l": ["\uDFFF"]}', "half a surrogate pair"),
}


@pytest.mark.parametrize("fault", FAULTY_LINES)
def test_a_faulty_line_is_named(tmp_path: Path, fault: str):
  line, message = FAULTY_LINES[fault]
  with pytest.raises(UserError, match=rf"rows\.jsonl:3: .*{message}"):
    read(tmp_path, raw=json.dumps(GOOD).encode() + b"\n\n" + line)  # the blank line counts


def test_missing_and_empty_files(tmp_path: Path):
  for path, message in ((tmp_path / "none.jsonl", "No such file"), (tmp_path, "Is a directory")):
    with pytest.raises(UserError, match=f"cannot be read \\({message}"):
      read_rows(str(path), Layout())
  for raw in (b"", b"\n \n", b"\xef\xbb\xbf"):
    with pytest.raises(UserError, match=r"rows\.jsonl: there are no rows"):
      read(tmp_path, raw=raw)


def test_a_byte_order_mark_and_windows_line_ends_are_accepted(tmp_path: Path):
  (row, other) = read(tmp_path, raw=b'\xef\xbb\xbf{"input": "q", "target": "t"}\r\n{"input": "r", "target": "t"}\r\n')
  assert (row.x, row.targets, row.line, other.line) == ("q", ("t",), 1, 2)


def test_targets_may_be_a_list(tmp_path: Path):
  assert read(tmp_path, {"input": "q", "target": ["t", "u"]})[0].targets == ("t", "u")


def test_a_whole_surrogate_pair_is_one_character(tmp_path: Path):
  assert read(tmp_path, raw=rb'{"input": "\ud83d\ude00", "target": "t"}')[0].x == "😀"


@pytest.mark.parametrize(
  "given, lines", [("[:2]", [1, 2]), ("[2:]", [3, 4]), ("[1:3]", [2, 3]), ("[:]", [1, 2, 3, 4]), ("[:9]", [1, 2, 3, 4])]
)
def test_a_slice_counts_rows(tmp_path: Path, given: str, lines: list[int]):
  path = write(tmp_path, *({"input": str(n), "target": "t"} for n in range(4)))
  assert [row.line for row in read_rows(path + given, Layout())] == lines


def test_a_slice_may_be_longer_than_any_file(tmp_path: Path):
  path = write(tmp_path, {"input": "q", "target": "t"})
  assert len(read_rows(f"{path}[:{'9' * 5000}]", Layout())) == 1
  with pytest.raises(UserError, match="there are no rows in it"):
    read_rows(f"{path}[{'9' * 23}:]", Layout())


@pytest.mark.parametrize("given", ["[-5:]", "[10]", "[::2]", "[]"])
def test_what_is_no_slice_is_refused_as_one(tmp_path: Path, given: str):
  path = write(tmp_path, {"input": "q", "target": "t"})
  with pytest.raises(UserError, match=r"is no slice: write \[N:M\], \[N:\] or \[:M\]"):
    read_rows(path + given, Layout())
  (tmp_path / f"x{given}").write_text('{"input": "q", "target": "t"}')
  assert len(read_rows(str(tmp_path / f"x{given}"), Layout())) == 1, "a file may be called so"


def test_a_slice_has_a_digest_of_its_own(tmp_path: Path):
  path = write(tmp_path, GOOD)
  assert len({digest(path), digest(path + "[:1]"), digest(path + "[:2]")}) == 3
  with pytest.raises(UserError, match="there are no rows"):
    read_rows(path + "[:0]", Layout())


def test_optional_columns_have_defaults_also_where_they_are_null_or_empty(tmp_path: Path):
  bare, null, empty = read(
    tmp_path,
    {"input": "q", "target": "t"},
    {"input": "q", "target": "u", "id": None, "lang": None, "group": None, "reasoning": None},
    {"input": "q", "target": "v", "id": "", "lang": "", "group": "", "reasoning": " \n"},
  )
  for row in (bare, null, empty):
    assert (row.lang, row.labels) == ("und", ()) and row.group == row.id and len(row.id) == 16
  assert [row.reasoning for row in (bare, null, empty)] == [None, "", ""]  # missing, and empty


def test_an_id_made_from_the_content_is_the_same_anywhere(tmp_path: Path):
  first = {"input": "q", "target": "t"}
  rows = read(tmp_path, {"input": "other", "target": "t"}, first)
  assert rows[1].id == read(tmp_path, {**first, "lang": "de"})[0].id != rows[0].id
  with pytest.raises(UserError, match=r":2: the same row stands on line 1 already: remove one"):
    read(tmp_path, first, first)


def test_columns_by_other_names(tmp_path: Path):
  record = {"qid": "7", "language": "sw", "passage": "p", "answer": "t", "why": " so ", "q": "what?"}
  names = {"id": "qid", "lang": "language", "group": "passage", "target": "answer", "reasoning": "why"}
  (row,) = read(tmp_path, record, input="{q}\n{passage}", **names)
  assert (row.id, row.lang, row.group, row.targets, row.reasoning) == ("7", "sw", "p", ("t",), "so")
  assert row.x == "what?\np" and row.fields == {"q": "what?", "passage": "p"}


def test_without_an_input_column_every_free_column_is_a_line(tmp_path: Path):
  (row,) = read(tmp_path, {"id": "a", "question": "what?", "passage": "p", "target": "t", "reasoning": "so"})
  assert row.x == "question: what?\npassage: p"
  with pytest.raises(UserError, match=r":1: .*'score' holds a number"):
    read(tmp_path, {"question": "what?", "score": 1, "target": "t"})


def test_a_template_that_names_a_missing_column_suggests_the_nearest(tmp_path: Path):
  with pytest.raises(UserError, match=r":1: the row has no field 'questoin' .*did you mean question"):
    read(tmp_path, {"question": "what?", "target": "t"}, input="{questoin}")


def test_braces_in_values_are_text(tmp_path: Path):
  (row,) = read(tmp_path, {"q": "{x} {reasoning} {{ {", "target": "}"}, input="<{q}>")
  assert row.x == "<{x} {reasoning} {{ {>" and row.targets == ("}",)


def test_labels_are_a_column_or_the_same_for_all(tmp_path: Path):
  record = {"input": "q", "target": "b", "choices": ["a", "b", "a"]}
  assert read(tmp_path, record, labels="choices")[0].labels == ("a", "b")
  assert read(tmp_path, record, labels=("b", "c"))[0].labels == ("b", "c")
  with pytest.raises(UserError, match=":1: the target 'b' is none of the row's labels"):
    read(tmp_path, record, labels=("c",))
  with pytest.raises(UserError, match=":1: the labels 'input' are no list"):
    read(tmp_path, record, labels="input")


def test_rows_to_answer_need_no_target(tmp_path: Path):
  path = write(tmp_path, {"input": "q"}, {"input": "r", "target": None}, {"input": "s", "target": "t"})
  assert [row.targets for row in read_rows(path, Layout(), labelled=False)] == [(), (), ("t",)]


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
RECORD = st.fixed_dictionaries(
  {"input": TEXT, "target": st.lists(TEXT.filter(str.strip), min_size=1, max_size=3)},
  optional={"lang": TEXT, "group": TEXT, "reasoning": TEXT},
)


@FILE
@given(records=st.lists(RECORD, min_size=1, max_size=5), ascii_only=st.booleans())
def test_rows_come_back_as_they_were_written(tmp_path: Path, records: list[dict], ascii_only: bool):
  numbered = [record | {"id": f"row {n}"} for n, record in enumerate(records)]
  raw = "\n".join(json.dumps(record, ensure_ascii=ascii_only) for record in numbered).encode()
  for number, (row, record) in enumerate(zip(read(tmp_path, raw=raw), numbered, strict=True), 1):
    assert (row.id, row.x, list(row.targets), row.line) == (record["id"], record["input"], record["target"], number)
    assert row.lang == languages.code(record.get("lang") or "und") and row.group == (record.get("group") or row.id)
    assert row.reasoning == (record["reasoning"].strip() if "reasoning" in record else None)


JSONISH = st.recursive(
  st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
  lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "input", "target"]), inner),
  max_leaves=6,
).map(lambda value: json.dumps(value).encode())


@FILE
@given(raw=st.binary() | st.lists(JSONISH | st.binary(max_size=8), max_size=4).map(b"\n".join))
def test_any_bytes_are_rows_or_a_user_error(tmp_path: Path, raw: bytes):
  path = write(tmp_path, raw=raw)
  try:
    rows = read_rows(path, Layout())
  except UserError as e:
    assert str(e).startswith(path) and "\n" not in str(e)
  else:
    assert rows and all(row.targets for row in rows)
