"""The audit's counts by hand on small rows."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fiat_jax.data import audit
from fiat_jax.data.keys import keys_of
from fiat_jax.data.rows import Layout, Row, read_rows
from fiat_jax.reasoning.answers import AnswerRule

RULE = AnswerRule.parse(r"answer is (?P<answer>.+?)\.?$")


@pytest.fixture
def rows(tmp_path: Path):
  def rows(*records: dict[str, Any]) -> Sequence[Row]:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"input": "q", "target": "t", **record}) for record in records))
    return read_rows(str(path), Layout())

  return rows


def test_languages_the_commonest_first(rows):
  found = audit.languages(rows({"id": "1", "lang": "b"}, {"id": "2", "lang": "a"}, {"id": "3", "lang": "b"}))
  assert list(found.items()) == [("b", 2), ("a", 1)]


def test_few_targets_are_labels_and_many_are_not(rows):
  train = rows(*({"id": str(n), "target": "yes" if n % 3 else "no"} for n in range(12)))
  test = rows({"id": "x", "target": ["yes", "no"]})
  assert audit.labels({"train": train, "test": test}) == {"train": {"yes": 8, "no": 4}, "test": {"yes": 1}}
  assert not audit.labels({"train": train[:10]})  # 2 of 10 are a fifth
  assert not audit.labels({"train": rows(*({"id": str(n), "target": str(n % 21)} for n in range(200)))})


def test_what_the_reasoning_gives_away(rows):
  texts = ["The ANSWER is T.", "So the answer is Paris.", "No idea about t", "", "the answer is wrong"]
  counted = rows(
    *({"id": str(n), "target": ["t", "paris"], "reasoning": text} for n, text in enumerate(texts)), {"id": "5"}
  )
  found = audit.reasoning_audit(counted, RULE.read, lambda one, other: one.lower() == other.lower())
  assert dataclasses.asdict(found) == {
    "missing": [5],
    "empty": [3],
    "reasoned": 4,
    "holds_target": [0, 1, 2, 4],
    "unfinished": [2, 4],
    "answered": [1, 4],
    "right": [1],
  }


@pytest.mark.parametrize(
  "text",
  [
    "So it is Paris.", 'He said "yes."', "**The answer is 4.**", "Really?! ", "उत्तर पेरिस है।", "答えはパリです。」",
    "الجواب باريس؟", "Պատասխանը Փարիզն է։", "መልሱ ፓሪስ ነው።", "(See above…)", "คำตอบคือปารีส",
  ],
)  # fmt: skip
def test_a_finished_text(text: str):
  assert audit.ends(text)


@pytest.mark.parametrize(
  "text", ["So the answ", "First, we know that,", "उत्तर पेरिस", "答えはパリ", "- one\n- two", "", "(a)"]
)
def test_an_unfinished_text(text: str):
  assert not audit.ends(text)


def test_rows_that_stand_twice(rows):
  train = rows({"id": "1"}, {"id": "2", "target": "u"}, {"id": "3"}, {"id": "4"})
  (found,) = audit.overlaps({"train": keys_of(train)})
  assert (found.what, found.splits) == ("rows", ("train", "train"))
  assert found.pairs.tolist() == [[0, 2], [0, 3]]


def test_leaks_between_splits(rows):
  train = rows({"id": "1", "group": "g"}, {"id": "2", "input": "r"}, {"id": "3", "input": "s", "group": "h"})
  test = rows({"id": "x"}, {"id": "2", "target": "other"}, {"id": "y", "input": "z", "group": "h"})
  alone = rows({"id": "z", "input": "alone", "target": "alone"})
  found = audit.overlaps({"train": keys_of(train), "validation": keys_of(alone), "test": keys_of(test)})
  assert [(o.what, o.splits) for o in found] == [(what, ("train", "test")) for what in ("rows", "ids", "groups")]
  assert [o.pairs.tolist() for o in found] == [[[0, 0]], [[1, 1]], [[2, 2]]]


def test_a_group_that_was_made_from_the_id_is_no_leak_of_its_own(rows):
  keys = {"a": keys_of(rows({"id": "1"})), "b": keys_of(rows({"id": "1", "input": "r"}))}
  assert [o.what for o in audit.overlaps(keys)] == ["ids"]
