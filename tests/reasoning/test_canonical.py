"""Which answers count as the same: numbers by value, other texts by their words; votes and targets alike."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiat_jax.reasoning.answers import same, vote
from fiat_jax.reasoning.canonical import canonical

NUMBERS = st.decimals(-(10**9), 10**9, allow_nan=False, places=3)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
ANSWERS = st.one_of(TEXTS, NUMBERS.map(str), st.text("0123456789.,-/%$ aA()", max_size=8))


@pytest.mark.parametrize(
  ("one", "other"),
  [
    ("12.5%", "125"), ("-$5", "5"), ("$-5", "5"), ("1/2", "12"), ("1.5", "15"), ("-5", "5"), ("4.0", "40"),
    ("1-5", "15"), ("12:30", "1230"), ("1e-5", "1e5"), ("−5", "5"), ("- 5", "5"), ("1,5", "15"), ("1/0", "10"),
    ("-5 degrees", "5 degrees"), ("1.5 kg", "15 kg"), ("x=-5", "x=5"), ("A", "the"), ("?", "!"), ("nan", "0"),
    ("A", "B"), ("1" * 200, "1" * 199), ("2**3", "23"),
  ],
)  # fmt: skip
def test_answers_that_differ(one, other):
  assert not same(one, other) and not same(other, one) and vote([one, other, other]) == (1, 2)


@pytest.mark.parametrize(
  ("one", "other"),
  [
    ("4", "4.0"), ("The 5.", "5"), ("1,000", "1000"), ("1,00,000", "100000"), ("$1,000.50", "1000.5"), ("(5)", "5"),
    ("12.5%", "12.5"), ("12.5 percent", "12.5 %"), ("-$5", "$-5"), ("-$5", "−5.00"), ("1/2", "0.5"), (".5", "0.5"),
    ("1 / 2", "1/2"), ("+3", "3"), ("**42**", "42"), ("= 42", "42"), ("٤٢", "42"), ("५", "5"), ("1e3", "1000"),
    ("nan", "NaN."), ("The Nile.", "nile"), ("A", "(a)"), ("1,000 km", "1000 km"), ("5 €", "5"), ("ab-1", "Ab1"),
  ],
)  # fmt: skip
def test_answers_that_are_one(one, other):
  assert same(one, other) and same(other, one) and vote([one, other, "none of it"]) == (0, 2)


@given(NUMBERS, NUMBERS)
def test_numbers_are_the_same_where_their_values_are(one, other):
  assert same(f"{one}", f"{other}") == (one == other)
  written = (f"{one:,}", f"The {one}.", f"{one}%", f"({one})", f" {one:f}00", f"{one:.6e}".replace("E", "e"))
  exact = written if one == round(one, 0) and abs(one) < 10**6 else written[:-1]
  assert {canonical(text) for text in exact} == {Fraction(one)}


@settings(max_examples=300)
@given(ANSWERS, ANSWERS)
def test_a_vote_counts_as_one_what_is_the_same(one, other):
  assert same(one, one)
  assert vote([one, other]) == (0, 2 if same(one, other) else 1)
  assert bool(canonical(one)) == bool(one.strip()) or canonical(one) == 0


@given(st.lists(ANSWERS, min_size=1, max_size=6))
def test_no_other_answer_has_more_votes(answers):
  found = vote(answers)
  assert found is not None
  votes = [sum(same(answer, other) for other in answers) for answer in answers]
  assert found == (votes.index(max(votes)), max(votes))
