"""Reasoning in other forms: an answer alone, another row's, half, with a gap, with a wrong answer."""

import dataclasses

import pytest

from fiat_jax.data.rows import Row
from fiat_jax.reasoning import forms

RULE = "after:answer is"


def row(number: int, text: str, target: str) -> Row:
  fields = {"input": f"question {number}"}
  return Row(id=str(number), lang="en", group=str(number), x=fields["input"], targets=(target,), reasoning=text,
             labels=(), line=number, fields=fields)  # fmt: skip


ROWS = [
  row(1, "Paris lies on the Seine. The answer is Paris", "paris"),
  row(2, "Parisian it is not. The answer is Rome", "Rome"),
  row(3, "Oslo, by guess. The answer is Oslo", "Bergen"),
  row(4, "Nothing is known of it", "Lima"),
]


def texts(form: str) -> list[str]:
  return forms.texts(ROWS, form, RULE, seed=0)


def test_every_row_has_another_row_s_reasoning_and_none_is_lost():
  found = texts("shuffled")
  assert sorted(found) == sorted(row.reasoning or "" for row in ROWS) and found == texts("shuffled")
  assert all(text != row.reasoning for text, row in zip(found, ROWS, strict=True))


def test_the_answer_is_taken_out_wherever_it_stands_whole():
  assert texts("answer") == ["Paris", "Rome", "Oslo", ""]
  assert texts("unanswered")[:2] == ["… lies on the Seine. The answer is …", "Parisian it is not. The answer is …"]
  assert texts("unanswered")[3] == ROWS[3].reasoning, "no answer, nothing to take out"


def test_only_wrong_answers_are_left():
  found = texts("wrong")
  assert "Paris" not in found[0] and found[0].partition(" lies")[0] in ("Rome", "Oslo")
  assert "Rome" not in found[1] and found[2] == ROWS[2].reasoning, "what is wrong already stays"


LETTERED = dataclasses.replace(
  row(5, "Only a cow gives milk, not (a) a dog. So the answer is (c) cow", "cow"),
  x="What gives milk? (a) dog (b) hen (c) cow",
  labels=("dog", "hen", "cow"),
)
READ = r"answer is (?:\([a-z]\) )?(?P<answer>.+)$"


def test_a_choice_is_taken_out_with_its_letter():
  (found,) = forms.texts([LETTERED], "unanswered", READ, seed=0)
  assert found == "Only a … gives milk, not (a) a dog. So the answer is …"


def test_a_wrong_choice_is_one_of_the_row_s_own_with_its_letter():
  found = {forms.texts([LETTERED, *ROWS], "wrong", READ, seed)[0].partition("answer is ")[2] for seed in range(20)}
  assert found == {"(a) dog", "(b) hen"}


def test_of_the_truncated_the_first_half_of_the_words_is_left():
  assert texts("truncated")[0] == "Paris lies on the"


@pytest.mark.parametrize("form", ["answer", "shuffled", "truncated", "unanswered", "wrong"])
def test_the_rows_in_a_form_are_a_path_like_any_other(form, tmp_path, monkeypatch):
  import json

  from fiat_jax.data.rows import Layout, read_rows

  monkeypatch.setenv("FIAT_CACHE", str(tmp_path / "cache"))
  file, layout = tmp_path / "rows.jsonl", Layout(target="target", reasoning="reasoning")
  file.write_text("".join(
    json.dumps({"input": row.x, "target": row.targets[0], "reasoning": row.reasoning}) + "\n" for row in ROWS
  ))  # fmt: skip
  rows = read_rows(str(file), layout)
  path = forms.path_of(str(file), rows, form, RULE, 0)
  assert [row.reasoning or "" for row in read_rows(path, layout)] == forms.texts(list(rows), form, RULE, 0)
