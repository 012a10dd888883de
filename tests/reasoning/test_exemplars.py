"""Which rows are shown before which, and how many: never the row itself nor one of its group."""

from __future__ import annotations

import json
import pathlib

import pytest
from annotating import words
from endpoint import Endpoint, served

from fiat_jax import cli

LANGS = ("en", "hi", "sw")


@pytest.fixture
def rows(tmp_path: pathlib.Path) -> pathlib.Path:
  """24 rows in three languages and twelve groups; each thing is asked about twice, in the same words."""
  things = ("apples", "rivers", "stars", "pens")
  lines = [
    {
      "id": f"r{n}",
      "lang": LANGS[n % 3],
      "group": f"g{n // 2}",
      "input": f"Question {n}: how many {things[n % 4]} are there?",
      "target": f"SECRET{n}",
      "reasoning": f"Count {n}. The answer is {n}.",
    }
    for n in range(24)
  ]
  file = tmp_path / "rows.jsonl"
  file.write_text("\n".join(map(json.dumps, lines)))
  return file


def shown(rows: pathlib.Path, *more: str) -> dict[int, list[int]]:
  """The rows that were shown before each row, in order."""
  endpoint = Endpoint()
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--exemplars", "train", *more)) == 0
  found = {}
  for body in endpoint.bodies:
    prompt = body["messages"][0]["content"]
    assert "SECRET" not in prompt
    numbers = [int(part.split(":")[0]) for part in prompt.split("Question ")[1:]]
    found[numbers[-1]] = numbers[:-1]
    for number in numbers[:-1]:
      assert f"Count {number}. The answer is {number}." in prompt
    assert f"Count {numbers[-1]}." not in prompt
  assert len(found) == 24
  for row, others in found.items():
    assert all(other // 2 != row // 2 for other in others), "the row itself, or one of its group"
  return found


def test_the_first_rows_are_shown_before_all_but_their_own(rows):
  found = shown(rows, "--shots", "3")
  assert found[20] == [0, 1, 2] and found[0] == [2, 3, 4] and found[3] == [0, 1, 4]


def test_random_rows_are_the_same_for_a_seed_and_others_for_another(rows):
  one = shown(rows, "--shot_choice", "random", "--split_seed", "1", "--store", str(rows.parent / "A"))
  same = shown(rows, "--shot_choice", "random", "--split_seed", "1", "--store", str(rows.parent / "B"))
  other = shown(rows, "--shot_choice", "random", "--split_seed", "2", "--store", str(rows.parent / "C"))
  assert one == same != other and one[23] != [0, 1, 2, 3]


def test_rows_of_the_language_come_before_others(rows):
  found = shown(rows, "--shot_choice", "language", "--shots", "3")
  assert all(other % 3 == row % 3 for row, others in found.items() for other in others)


def test_the_nearest_rows_are_those_that_are_most_alike(rows):
  found = shown(rows, "--shot_choice", "nearest", "--shots", "2")
  assert all(other % 4 == row % 4 for row, others in found.items() for other in others)


def test_exemplars_of_a_file_are_shown_and_another_content_is_another_view(rows):
  file = rows.parent / "shots.jsonl"
  store = rows.parent / "S"
  endpoint = Endpoint()
  with served(endpoint) as url:
    for thing in ("moons", "suns"):
      record = {"id": "e", "input": f"How many {thing}?", "target": "2", "reasoning": "Look up. The answer is 2."}
      file.write_text(json.dumps(record))
      assert cli.main(words(rows, url, "--exemplars", str(file))) == 0
      prompts = [body["messages"][0]["content"] for body in endpoint.bodies[-24:]]
      assert all(f"{thing}?\n\nReasoning: Look up. The answer is 2." in prompt for prompt in prompts)
  assert len(endpoint.bodies) == 48
  assert len(list((store / "reasoning").glob("*.jsonl"))) == 2
  words_ = ["validate", *words(rows, url, "--exemplars", str(file))[1:], "--model", "none"]
  assert cli.main(words_) == 0
  file.unlink()  # of two views that differ by what stood in it, none can be told to be the one
  assert cli.main(words_) == 2


@pytest.mark.parametrize(("context", "count"), [(205, 1), (235, 2), (100000, 4)])
def test_as_many_are_shown_as_fit_into_what_the_endpoint_says_that_it_takes(rows, capsys, context, count):
  endpoint = Endpoint(context=context)
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--exemplars", "train", "--dry_run")) == 0
    assert f"{count} of 4 exemplars" in capsys.readouterr().out and not endpoint.bodies


def test_a_prompt_longer_than_the_context_is_told_before_anything_is_asked(rows, capsys):
  endpoint = Endpoint(context=110)
  with served(endpoint) as url:
    assert cli.main(words(rows, url)) == 2
  said = capsys.readouterr().err
  assert "rows.jsonl:" in said and "more than the 110 that the big model takes" in said and not endpoint.bodies


def test_digits_and_signs_count_as_tokens_in_whether_a_prompt_fits(rows, capsys):
  row = {"id": "digits", "input": " ".join("7" * 6000), "target": "1"}
  rows.write_text(json.dumps(row))
  endpoint = Endpoint(context=8192)
  with served(endpoint) as url:
    assert cli.main(words(rows, url)) == 2
    assert "more than the 8192 that the big model takes" in capsys.readouterr().err and not endpoint.bodies
    rows.write_text(json.dumps(row | {"input": "as many letters, but of words " * 400}))
    assert cli.main(words(rows, url)) == 0


@pytest.mark.parametrize("context", [None, 4096])
def test_that_an_endpoint_does_not_tell_its_length_is_said_once(rows, capsys, context):
  with served(Endpoint(context=context)) as url:
    assert cli.main(words(rows, url)) == 0
    said = f"how many tokens big takes is not told by {url}: no prompt's length is checked; --beta_context says it"
    assert capsys.readouterr().err.count(said) == (context is None)
    assert cli.main(words(rows, url, "--beta_context", "4096")) == 0
  assert said not in capsys.readouterr().err


def test_a_checkpoint_counts_by_its_own_tokenizer_and_says_what_is_too_long_before_it_is_loaded(
  rows, capsys, tiny_checkpoint, monkeypatch
):
  monkeypatch.setattr("fiat_jax.models.pretrained.load", lambda *_: pytest.fail("the weights were read"))
  local = ["annotate", "--beta", str(tiny_checkpoint), "--store", str(rows.parent / "S"), "--exemplars", "train"]
  more = ["--reasoning_length", "850", "--dry_run"]
  assert cli.main([*local, "--train", str(rows), *more]) == 0
  assert "3 of 4 exemplars: more do not fit" in capsys.readouterr().out
  row = {"id": "long", "input": "many words " * 600, "reasoning": "So."}
  rows.write_text(rows.read_text() + "\n" + json.dumps(row))
  assert cli.main([*local, "--train", str(rows)]) == 2
  said = capsys.readouterr().err
  assert "rows.jsonl:25:" in said and "more than the 1024 that the big model takes" in said


def test_a_file_without_reasoning_cannot_be_shown(rows, capsys):
  file = rows.parent / "shots.jsonl"
  file.write_text(json.dumps({"id": "e", "input": "How many?", "target": "2"}))
  assert cli.main(words(rows, "http://127.0.0.1:9/v1", "--exemplars", str(file))) == 2
  assert "no row has reasoning" in capsys.readouterr().err
