"""Near duplicates against the Jaccard index of every pair, and by hand on small rows."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiat_jax.data import duplicates
from fiat_jax.data.duplicates import Near
from fiat_jax.data.keys import keys_of
from fiat_jax.data.rows import Row

SENTENCE = "the quick brown fox jumps over the lazy dog and runs far away from every hunter in this green wood"


def row(id: str, text: str, group: str = "", target: str = "t") -> Row:
  return Row(
    id=id, lang="und", group=group or id, x=text, targets=(target,), reasoning=None, labels=(), line=1,
    fields={"input": text},
  )  # fmt: skip


def near(splits: Mapping[str, Sequence[Row]], on_rows: Callable[[int], object] = lambda count: None) -> list[Near]:
  return duplicates.near(splits, {split: keys_of(rows) for split, rows in splits.items()}, on_rows)


def brute_force(text: str) -> set[tuple[str, ...]]:
  """Shingles of ASCII texts, written anew."""
  found = text.split()
  return {tuple(found[n : n + 3]) for n in range(max(1, len(found) - 2))} if found else set()


words = st.lists(st.sampled_from("abcdefghijklmnop"), min_size=0, max_size=30)


@st.composite
def corpora(draw: st.DrawFn) -> list[str]:
  """Texts and edited copies of them, so that every similarity comes up."""
  texts = draw(st.lists(words, min_size=2, max_size=6))
  for text in draw(st.lists(st.sampled_from(texts), max_size=6)):
    copy = list(text)
    for place in draw(st.lists(st.integers(0, max(0, len(copy) - 1)), max_size=3)) if copy else []:
      copy[place] = draw(st.sampled_from("abcxyz"))
    texts = [*texts, copy]
  return [" ".join(text) for text in texts]


@settings(max_examples=60, deadline=None)
@given(texts=corpora())
def test_all_that_is_found_is_near_and_all_that_is_near_is_found(texts: list[str]):
  found = near({"train": [row(str(n), text, target=str(n)) for n, text in enumerate(texts)]})
  similar = {}
  for one, other in itertools.combinations(range(len(texts)), 2):
    a, b = brute_force(texts[one]), brute_force(texts[other])
    similar[str(one), str(other)] = len(a & b) / len(a | b) if a | b else 0.0
  for each in found:
    pair = (str(each.rows[0]), str(each.rows[1]))
    assert each.similarity == pytest.approx(similar[pair]) and each.similarity >= 0.8
  expected = {other for (_, other), similarity in similar.items() if similarity >= 0.8}
  assert {str(each.rows[1]) for each in found} == expected  # a miss is one in 5,000, and the hash functions are fixed


def test_one_changed_word_is_near_and_other_words_are_not():
  edited = SENTENCE.replace("wood", "forest")
  found = near({"train": [row("1", SENTENCE), row("2", "something else entirely here")], "test": [row("3", edited)]})
  assert [each.rows for each in found] == [(0, 0)] and found[0].splits == ("train", "test")
  assert found[0].similarity == pytest.approx(17 / 19)


def test_texts_without_blanks_are_compared_by_character():
  text = "埃菲尔铁塔位于法国巴黎的战神广场是世界著名建筑也是法国文化象征之一"
  found = near({"train": [row("1", text)], "test": [row("2", text + "吗"), row("3", text[::-1])]})
  assert [each.rows for each in found] == [(0, 0)]


def test_rows_of_one_group_are_no_duplicates_of_one_another():
  assert not near({"train": [row("1", SENTENCE, "g")], "test": [row("2", SENTENCE + " now", "g")]})


def test_the_same_input_with_another_target_counts_and_with_the_same_target_is_told_elsewhere():
  train = [row("1", SENTENCE)]
  assert not near({"train": train, "test": [row("2", SENTENCE)]})
  (found,) = near({"train": train, "test": [row("2", SENTENCE, target="u")]})
  assert found.similarity == 1.0 and found.conflict


def test_a_row_is_told_once_a_split():
  train = [row(f"a{n}", f"{SENTENCE} {n}") for n in range(3)]
  found = near({"train": train, "test": [row("b", f"{SENTENCE} x")]})
  assert [(each.splits, each.rows[1]) for each in found] == [
    (("train", "train"), 1),
    (("train", "train"), 2),
    (("train", "test"), 0),
  ]


def test_where_all_are_alike_all_are_told_and_time_stays_bounded():
  train = [row(f"a{n}", f"{SENTENCE} {n}") for n in range(3_000)]
  done: list[int] = []
  found = near({"train": train, "test": [row("b", SENTENCE)]}, done.append)
  assert [each.rows[1] for each in found] == [*range(1, 3_000), 0]
  assert sum(done) == 3_001


def test_rows_without_words_are_no_duplicates():
  assert not near({"train": [row("1", "?!"), row("2", "..."), row("3", "")]})
