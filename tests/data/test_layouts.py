"""Alpaca's and chats' rows without a flag, and names of languages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fiat_jax.data import languages
from fiat_jax.data.rows import Layout, Row, read_rows
from fiat_jax.errors import UserError


def read(folder: Path, *rows: dict, labelled: bool = True, **layout: str) -> Sequence[Row]:
  path = folder / "rows.jsonl"
  path.write_text("\n".join(map(json.dumps, rows)))
  return read_rows(str(path), Layout(**layout), labelled=labelled)


def turns(*said: str, role: str = "role", content: str = "content") -> list[dict[str, str]]:
  return [dict(zip((role, content), text.split(": "), strict=True)) for text in said]


def test_alpaca(tmp_path: Path, capsys: pytest.CaptureFixture):
  bare = {"instruction": "Add.", "input": "", "output": "3"}
  first, second = read(tmp_path, {"instruction": "Add.", "input": "1 2", "output": "3"}, bare)
  assert (first.x, first.targets, second.x) == ("Add.\n\n1 2", ("3",), "Add.")
  assert "rows.jsonl: read as alpaca" in capsys.readouterr().err
  assert read(tmp_path, {"instruction": "Add.", "input": "1 2"}, labelled=False)[0].x == "Add.\n\n1 2"
  assert read(tmp_path, {**bare, "target": "4"}, input="{instruction}")[0].targets == ("4",)
  with pytest.raises(UserError, match=":2: the field 'output' holds a null"):
    read(tmp_path, bare, {"instruction": "Add."})


def test_chats(tmp_path: Path):
  (row,) = read(tmp_path, {"messages": turns("user: Hi", "assistant: Ho", "user: so?", "assistant: yes", "user: bye")})
  assert (row.x, row.targets) == ("User: Hi\nAssistant: Ho\nUser: so?", ("yes",))
  (row,) = read(tmp_path, {"conversations": turns("human: Hi", "gpt: Ho", role="from", content="value")})
  assert (row.x, row.targets) == ("Hi", ("Ho",))
  (row,) = read(tmp_path, {"messages": turns("system: Be kind.", "user: Hi")}, labelled=False)
  assert (row.x, row.targets) == ("System: Be kind.\nUser: Hi", ())


@pytest.mark.parametrize(
  "messages, message",
  [
    (turns("user: Hi"), "no field 'target'"),
    (turns("assistant: Hi"), "no user's turn"),
    (turns("robot: Hi"), "'role' is 'robot'"),
    ([{"role": "user", "content": 7}], "'content' holds a number"),
    ([], "no list of turns"),
    (["Hi"], "a turn is no object"),
  ],
)
def test_faulty_chats_are_named(tmp_path: Path, messages: list, message: str):
  good = {"messages": turns("user: Hi", "assistant: Ho")}
  with pytest.raises(UserError, match=rf"rows\.jsonl:2: .*{message}"):
    read(tmp_path, good, {"messages": messages})


def test_a_target_that_was_named_is_not_looked_for_elsewhere(tmp_path: Path):
  with pytest.raises(UserError, match="no field 'answer'"):
    read(tmp_path, {"instruction": "Add.", "input": "", "output": "3"}, target="answer")


def test_names_of_languages_become_codes():
  names = {"English": "en", "bengali": "bn", "বাংলা": "bn", "日本語": "ja", "Swahili": "sw", "Français": "fr"}
  names |= {" English": "en", "EN": "en", "en ": "en", "eng": "en", "ENG": "en", "deu": "de", "ger": "de", "cmn": "cmn"}
  names |= {"Lao": "lo", "Ewe": "ee", "Twi": "tw", "MUL": "mul"}
  assert {name: languages.code(name) for name in names} == names
  no_names = ("Elvish of the north", "", "level 1", "\0", "7", "a", "XX", "xyz")
  for other in ("en", "pt-BR", "zh-Hant", "zh_Hans", "und", *no_names):
    assert languages.code(other) == other
