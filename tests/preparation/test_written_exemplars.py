"""The exemplars with reasoning that ship for β: as many and in the languages that the paper says, and shown."""

from __future__ import annotations

import collections
import json
import unicodedata

import pytest

from fiat_jax import cli
from fiat_jax.data.task_files import settings
from fiat_jax.preparation.converters import xor_attriqa
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.resources import shipped

SCRIPTS = {"bn": ("BENGALI",), "fi": ("LATIN",), "ja": ("HIRAGANA", "KATAKANA", "CJK"), "ru": ("CYRILLIC",)}
SCRIPTS["te"] = ("TELUGU",)


def _exemplars(task: str) -> list[dict]:
  return [json.loads(line) for line in (shipped("tasks") / task / "exemplars.jsonl").open(encoding="utf-8")]


@pytest.mark.parametrize("task", ["xor_attriqa", "xtreme_up"])
def test_questions_are_in_their_language_and_reasoning_ends_in_the_answer(task):
  read = AnswerRule.parse(settings({"xtreme_up": "xtreme_up_indic"}.get(task, task))["ANSWER"]).read
  for row in _exemplars(task):
    letters = [unicodedata.name(letter) for letter in row["question"] if letter.isalpha()]
    assert all(name.startswith(SCRIPTS[row["lang"]]) for name in letters), row["question"]
    assert row["reasoning"].isascii() and read(row["reasoning"]) == row["target"]


def test_there_are_four_of_each_language_and_four_in_bengali():
  found = _exemplars("xor_attriqa")
  assert collections.Counter(row["lang"] for row in found) == dict.fromkeys(xor_attriqa.LANGUAGES, 4)
  of_targets = collections.Counter((row["lang"], row["target"]) for row in found)
  assert set(of_targets.values()) == {2} and len(of_targets) == 2 * len(xor_attriqa.LANGUAGES)
  assert len({row["question"] for row in found}) == len({row["passage"] for row in found}) == 20
  assert sum(row["passage"].isascii() for row in found) in range(8, 13), "some passages are in the row's language"
  assert [row["lang"] for row in _exemplars("xtreme_up")] == ["bn"] * 4


@pytest.mark.parametrize("task", ["xor_attriqa", "xtreme_up_indic"])
def test_a_request_shows_the_four_that_suit_its_row(task, tmp_path, capsys, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "none")
  name = task.removesuffix("_indic")
  assert cli.main(["prepare", name, "--sample", "--quiet"]) == 0
  capsys.readouterr()
  words = ["--gin_file", f"gin/tasks/{task}.gin", "--beta", "openai:big", "--store", str(tmp_path / "store")]
  assert cli.main(["annotate", *words, "--price", "1,1", "--dry_run"]) == 0
  printed = "".join(capsys.readouterr())
  shown = [row["lang"] for row in _exemplars(name) if row["question"] in printed and row["reasoning"] in printed]
  assert len(shown) == 4 and len(set(shown)) == 1
