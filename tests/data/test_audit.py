"""The audit's counts by hand on small rows, and the report of `fiat validate`."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fiat_jax import cli, prompts
from fiat_jax.data import audit
from fiat_jax.data.audit import Lengths
from fiat_jax.data.rows import Layout, Row, read_rows
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.reasoning.answers import AnswerRule

RULE = AnswerRule.parse(r"answer is (?P<answer>.+?)\.?$")


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
  return Tokenizer.load(smollm2_path)


@pytest.fixture
def write(tmp_path: Path):
  def write(name: str, *records: dict[str, Any]) -> str:
    path = tmp_path / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps({"input": "q", "target": "t", **record}) for record in records))
    return str(path)

  return write


@pytest.fixture
def rows(write):
  def rows(*records: dict[str, Any], name: str = "rows") -> list[Row]:
    return read_rows(write(name, *records), Layout())

  return rows


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]):
  """What `fiat validate` prints; it must succeed."""

  def report(*words: str) -> str:
    assert cli.main(["validate", *words]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out

  return report


def test_limits_that_fit_a_share_of_the_rows():
  lengths = Lengths(tokens=np.arange(200, 0, -1), rows=np.arange(200))
  assert [lengths.fits(share) for share in (0, 0.5, 0.99, 1)] == [1, 100, 198, 200]
  assert lengths.over(198).tolist() == [0, 1] and not lengths.over(200).size
  assert Lengths(tokens=np.array([7]), rows=np.array([3])).fits(0.99) == 7


def test_languages_the_commonest_first(rows):
  found = audit.languages(rows({"id": "1", "lang": "b"}, {"id": "2", "lang": "a"}, {"id": "3", "lang": "b"}))
  assert list(found.items()) == [("b", 2), ("a", 1)]


def test_lengths_are_those_of_the_prompt_that_training_reads(rows, tokenizer: Tokenizer):
  both = rows({"input": "What is it?", "reasoning": "Think."}, {"input": "Who?", "target": ["a b c", "d"]})
  lengths = audit.lengths(tokenizer, both, "Do.\n{x}")
  assert lengths["reasoning"].rows.tolist() == [0]
  assert lengths["x"].tokens.tolist() == [len(tokenizer.encode(row.x)) for row in both]
  assert lengths["target"].tokens.tolist() == [len(tokenizer.encode(t)) + 1 for t in ("t", "a b c")]
  texts = ["Do.\nWhat is it?" + prompts.REASONING_PARAGRAPH.format(reasoning="Think."), "Do.\nWho?"]
  assert lengths["prompt"].tokens.tolist() == [len(tokenizer.encode_prompt(text)) for text in texts]
  assert "reasoning" not in audit.lengths(tokenizer, both[1:], "{x}")


def test_what_the_reasoning_gives_away(rows):
  texts = ["The ANSWER is T.", "So the answer is Paris.", "No idea about t", "", "the answer is wrong"]
  counted = rows(*({"id": str(n), "target": ["t", "paris"], "reasoning": text} for n, text in enumerate(texts)))
  counts = audit.reasoning_counts(counted, RULE.read, lambda one, other: one.lower() == other.lower())
  assert (counts.rows, counts.holds_target, counts.answered, counts.right) == (4, 4, 2, 1)


def test_rows_that_stand_twice(rows):
  train = rows({"id": "1"}, {"id": "2", "target": "u"}, {"id": "3"}, {"id": "4"})
  (found,) = audit.overlaps({"train": train})
  assert (found.what, found.splits, found.count) == ("rows", ("train", "train"), 2)
  assert [row.id for row in found.first] == ["1", "3"]


def test_leaks_between_splits(rows):
  train = rows({"id": "1", "group": "g"}, {"id": "2", "input": "r"}, {"id": "3", "input": "s", "group": "h"})
  test = rows({"id": "x"}, {"id": "2", "target": "other"}, {"id": "y", "input": "z", "group": "h"})
  alone = rows({"id": "z", "input": "alone", "target": "alone"})
  found = audit.overlaps({"train": train, "validation": alone, "test": test})
  assert [(o.what, o.splits, o.count) for o in found] == [
    (what, ("train", "test"), 1) for what in ("rows", "ids", "groups")
  ]
  assert [[row.id for row in o.first] for o in found] == [["1", "x"], ["2", "2"], ["3", "y"]]


def test_a_group_that_was_made_from_the_id_is_no_leak_of_its_own(rows):
  assert [o.what for o in audit.overlaps({"a": rows({"id": "1"}), "b": rows({"id": "1", "input": "r"})})] == ["ids"]


def test_rows_by_the_thousand_take_seconds(tokenizer: Tokenizer, rows):
  many = rows(*({"id": str(n), "input": f"question {n} " * 20, "reasoning": "so " * 40} for n in range(2_000)))
  started = time.monotonic()
  audit.lengths(tokenizer, many, "{x}")
  audit.overlaps({"train": many, "test": many[:500]})
  assert time.monotonic() - started < 15  # 0.5 s alone on two cores


def test_the_shipped_set_has_no_warnings(report):
  told = report("--gin_file", "gin/tasks/mini_xqa.gin")
  assert told.startswith("train: ") and told.endswith("\nno warnings\n")
  assert "  224 rows in 28 groups\n  8 languages: ar 28, bn 28," in told
  assert "  longer than --source_length 768: 0 rows; 312 holds 99 %, 326 holds all\n" in told
  assert "  reasoning: 224 of 224 (100.0 %) rows have one" in told


def test_warnings_say_what_to_do(report, write):
  train = write("train", {"id": "1", "group": "g"}, {"id": "2", "group": "g", "target": "a b c d", "reasoning": "So."})
  test = write("test", {"id": "1", "input": "r", "group": "g"})
  told = report("--train", f"{train}[:2]", "--test", test, "--target_length", "4", "--recipes", "fine_tuning")
  warnings = told.split("warnings:\n")[1]
  assert f"1 row of train would be refused, target longer than --target_length 4 (the first: {train}:2)" in warnings
  assert "set --target_length 5, or shorten them" in warnings
  assert "1 of 2 rows of train have no reasoning in the column 'reasoning'" in warnings
  assert "no answer could be read out of the reasoning of train" in warnings
  assert f"leak: 1 id in both train and test: the same id, as '1' (the first: {train}:1 and {test}:1)" in warnings
  assert "leak: 1 group in both train and test: the same group, as 'g'" in warnings


def test_a_recipe_that_needs_reasoning_is_told_before_it_runs(report, write):
  train = write("train", {"id": "1"})
  assert "reasoning: no row has one" in report("--train", train, "--recipes", "fine_tuning")
  told = report("--train", train, "--recipes", "fiat")
  assert "and the recipe 'FIAT' needs it: name its column with --reasoning" in told


def test_without_the_model_all_but_the_lengths_is_told(report, write):
  told = report("--train", write("train", {"id": "1"}), "--model", "nothing_by_that_name")
  assert "1 row in 1 group" in told and "longer than" not in told
  assert "warnings:\n  - lengths are not known: the model 'nothing_by_that_name' is no file or folder" in told


def test_an_instruction_that_only_some_recipes_can_use(report, write):
  train = write("train", {"id": "1", "reasoning": "The answer is t."})
  assert "give {reasoning} a line of its own" in report("--train", train, "--instruction", "{x} ({reasoning})")


def test_no_split_is_an_error(capsys: pytest.CaptureFixture[str]):
  assert cli.main(["validate"]) == 2
  assert capsys.readouterr().err == ("error: no rows to look at: give --train FILE, --validation FILE or --test FILE\n")


def test_neither_jax_nor_tensorflow_is_imported(write):
  code = (
    "import sys\nfrom fiat_jax import cli\ncode = cli.main(['validate', '--train', sys.argv[1]])\n"
    "sys.exit(code or ', '.join({'jax', 'flax', 'tensorflow', 'seqio', 'torch', 'grain'} & set(sys.modules)) or 0)\n"
  )
  run = subprocess.run([sys.executable, "-c", code, write("train", {"id": "1"})], capture_output=True, text=True)
  assert (run.returncode, run.stderr) == (0, "") and "no warnings" in run.stdout
