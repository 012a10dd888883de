"""The default rule on reasoning as big models write it."""

import pytest

from fiat_jax.errors import UserError
from fiat_jax.macros import declared
from fiat_jax.reasoning.answers import AnswerRule

CASES = {
  "Of the above choices, only math problem fits. So the answer is (d) math problem.": "math problem",
  "84 / 2 = 42. The answer is 42.0": "42.0",
  "The answer is not obvious. So the answer is Lake Baikal.": "Lake Baikal",
  "First, the answer is Rome.\nOn reflection, the answer is Juan Sebastián Elcano.": "Juan Sebastián Elcano",
  "So the answer is No Answer.": "No Answer",
  "So the answer is St. Petersburg.": "St. Petersburg",
  "Answer: গঙ্গা": "গঙ্গা",
  "So the answer is (d).": "(d)",
  "The answer is: Paris.": "Paris",
  "**Answer:** Paris": "Paris",
  "The answer is **Paris**.": "Paris",
  "I do not know.": None,
  "": None,
}


@pytest.mark.parametrize("reasoning", CASES)
def test_default_rule(reasoning):
  assert AnswerRule.parse(declared()["ANSWER"].default).read(reasoning) == CASES[reasoning]


def test_pattern_that_takes_for_ever_counts_as_no_answer():
  assert AnswerRule.parse(r"(?P<answer>(a+)+)b").read("a" * 64) is None


@pytest.mark.parametrize("pattern", ["(", "the answer is (.+)"])
def test_pattern_that_cannot_serve_is_refused(pattern):
  with pytest.raises(UserError, match="--answer"):
    AnswerRule.parse(pattern)
