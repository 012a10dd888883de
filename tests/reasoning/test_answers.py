"""The default rule on reasoning as big models write it."""

import pytest

from fiat_jax.errors import UserError
from fiat_jax.macros import declared
from fiat_jax.reasoning.answers import AnswerRule, chosen, read_leniently

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


@pytest.mark.parametrize(
  ("reasoning", "labels", "found"),
  [
    ("There are many.\nSo she has 12 apples left.", (), "12"),
    ("There are many.\nIt costs $1,200.50.", (), "$1,200.50"),
    ("First 3, then 4.\nIt rises from 3 to 4 while the other one falls, as was to be shown.", (), None),
    ("I looked it up.\n\n**Lake Baikal.**\n", (), "Lake Baikal"),
    ("I looked it up, and there was nothing at all that could have told me which of them it is", (), None),
    ("Both are near.\nSo I would say that it is entailment here.", ("entailment", "neutral"), "entailment"),
    ("entailment or neutral", ("entailment", "neutral"), None),
    ("Paris", ("entailment", "neutral"), None),
    ("Not entailment", ("entailment", "not entailment"), "not entailment"),
    ("About half.\n.5", (), ".5"),
    ("", (), None),
    (" * \n", (), None),
  ],
)
def test_what_may_be_an_answer_where_the_rule_finds_none(reasoning, labels, found):
  assert read_leniently(reasoning, labels) == found


@pytest.mark.parametrize(
  ("answer", "labels", "found"),
  [
    ("Michigan", ("michigan", "ohio"), "michigan"),
    ("(b) the bank.", ("river", "bank"), "bank"),
    ("either bank or river", ("river", "bank"), "either bank or river"),
    ("fish pond", ("pond", "fish pond"), "fish pond"),
    ("banking", ("river", "bank"), "banking"),
    ("It is a dog", ("A", "B"), "It is a dog"),
    ("B.", ("A", "B"), "B"),
    ("4.0", ("4", "40"), "4"),
    ("", ("A", ""), ""),
    ("Michigan", (), "Michigan"),
  ],
)
def test_of_a_rows_choices_an_answer_is_the_one_that_it_names(answer, labels, found):
  assert chosen(answer, labels) == found
