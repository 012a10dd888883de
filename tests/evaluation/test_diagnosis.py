"""Doubts about results: each with its cause, and none without reason."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fiat_jax.data.rows import Row
from fiat_jax.evaluation import diagnosis
from fiat_jax.evaluation.evaluate import Prediction, summarise

NAMES = ("f1_squad", "exact_match")


def summary(*answers: tuple[str, str], names: tuple[str, ...] = NAMES) -> dict[str, Any]:
  """Of such (text, fault) given to rows whose target is `Paris`."""
  row = Row(id="1", lang="en", group="1", x="q", targets=("Paris",), reasoning=None, labels=(), line=1, fields={})
  predictions = [Prediction(row=row, text=text, fault=fault) for text, fault in answers]  # pyright: ignore
  return summarise(predictions, names)


def doubts(*answers: tuple[str, str], names: tuple[str, ...] = NAMES) -> list[str]:
  return diagnosis.doubts([{"title": "FIAT", "test": summary(*answers, names=names)}], names, "test")


@pytest.mark.parametrize(
  "answers, cause",
  [
    ([("", "unparsed")] * 2, "FIAT: no answer could be read out of the reasoning of any of 2 rows: .*--answer"),
    ([("", "empty")] * 2, "FIAT: all 2 answers are empty: .*learning rate"),
    ([("x y", "unfinished")] * 2, "FIAT: none of 2 answers came to its end: raise --target_length"),
    (
      [("Rome", ""), ("", "empty")],
      "FIAT: f1_squad and exact_match are 0 though 1 of 2 rows have an answer: .*--metrics",
    ),
    ([("It is Paris", ""), ("", "empty")], "FIAT: exact_match is 0 though 1 of 2 rows have an answer"),
  ],
)
def test_what_is_stuck_is_told_with_its_likely_cause(answers, cause: str):
  (doubt,) = doubts(*answers)
  assert re.match(cause, doubt)


def test_results_like_any_others_raise_no_doubt():
  assert not doubts(("Paris", ""), ("", "empty"), ("Rome", "unfinished"))
  assert not diagnosis.doubts([{"title": "FIAT"}], NAMES, "test")


def test_a_validation_that_stays_at_0_is_told_once():
  stuck, nothing, other = diagnosis.Stuck(NAMES), summary(("Rome", ""), ("Bern", "")), summary(("Paris", ""))
  assert [len(stuck.heard(each)) for each in (nothing, other, nothing, nothing, nothing, nothing)] == [0, 0, 0, 1, 0, 0]
  unlike = [summary(("Rome", ""), ("", "empty")), summary(("Rome", ""), ("Bern", ""))]
  stuck = diagnosis.Stuck(NAMES)
  assert [len(stuck.heard(each)) for each in unlike] == [0, 1]  # the same cause, whatever the counts
