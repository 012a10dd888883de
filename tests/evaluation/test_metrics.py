"""Scores of single answers, by hand, and their averages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics

F1 = {
  ("The cat.", "cat"): 100.0,
  ("a big cat", "the cat"): 200 / 3,
  ("cat cat dog", "cat dog dog"): 200 / 3,
  ("", ""): 0.0,
  ("the", "an"): 0.0,
  ("No Answer", "No Answer"): 100.0,
  ("no", "No Answer"): 200 / 3,
  ("গঙ্গা নদী", "গঙ্গা"): 200 / 3,
  ("1987年。", "1987年"): 0.0,  # the normaliser is English: a full stop of another script stays
  ("U.S.", "US"): 100.0,
}


@pytest.mark.parametrize("pair", F1, ids=str)
def test_f1_squad(pair):
  assert metrics.f1_squad(*pair) == pytest.approx(F1[pair])


def test_exact_match_normalises_and_accuracy_does_not():
  assert metrics.exact_match("the Nile!", "Nile") == 100 and metrics.accuracy("the Nile!", "Nile") == 0
  assert metrics.accuracy(" 42.0\n", "42.0") == 100


def test_the_target_that_suits_best_counts():
  assert metrics.score(("f1_squad",), "Nile", ("Amazon", "the Nile")) == {"f1_squad": 100.0}


def test_macro_average_weighs_languages_not_rows():
  languages = metrics.by_language(["hi", "bn", "hi"], [{"m": 100.0}, {"m": 0.0}, {"m": 50.0}])
  assert languages == {"bn": {"m": 0.0}, "hi": {"m": 75.0}}
  assert metrics.macro_average(languages) == {"m": 37.5}


def test_an_unknown_metric_names_the_nearest():
  with pytest.raises(UserError, match="did you mean exact_match"):
    metrics.check(["exact_mach"])


@given(st.text(), st.text())
def test_f1_is_symmetric_bounded_and_whole_for_equals(one, other):
  score = metrics.f1_squad(one, other)
  assert 0 <= score <= 100 and score == metrics.f1_squad(other, one)
  assert metrics.f1_squad(one, one) == (100.0 if metrics.normalise_squad(one) else 0.0)
