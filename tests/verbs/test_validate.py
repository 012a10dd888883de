"""The report of `fiat validate`: what it counts, what it warns of and where, what it shows, what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fiat_jax import cli
from fiat_jax.data import show
from fiat_jax.verbs.validation import examples

pytestmark = pytest.mark.compiled_quickly

SENTENCE = "the quick brown fox jumps over the lazy dog and runs far away from every hunter in this green wood"


QUICK = ("--model", "none")  # what needs no tokenizer is told without one, in less time


@pytest.fixture
def write(tmp_path: Path):
  def write(name: str, *records: dict[str, Any]) -> str:
    path = tmp_path / f"{name}.jsonl"
    path.write_text("\n".join(json.dumps({"input": "q", "target": "t", **record}) for record in records))
    return str(path)

  return write


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]):
  """What `fiat validate` prints; it must succeed."""

  def report(*words: str) -> str:
    assert cli.main(["validate", *words]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out

  return report


def test_the_shipped_set_has_one_warning(report):
  told = report("--gin_file", "gin/tasks/mini_xqa.gin")
  body, warnings = told.split("1 warning:\n")
  assert warnings.startswith("  - the vocabulary of smollm2_135m_instruct is poor for 5 languages (tokens a word: ar ")
  assert "a multilingual one (--model) would serve better" in warnings
  assert body.startswith("train: ")
  assert "  224 rows in 28 groups\n  8 languages: ar 28, bn 28," in body
  assert "  longer than --source_length 768: 0 rows; 312 fits 99 %, 326 fits all\n" in body
  assert "    whole prompt                 190     237    312    326  │▂▄▄▇▆██▃▃▂▂▂▁▁▁▁│\n" in body
  assert "  reasoning: 224 of 224 (100.0 %) rows have one; 0 missing, 0 empty\n" in body
  assert "label" not in body and "a character" in body


def test_warnings_name_rows_and_say_what_to_do(report, write):
  train = write("train", {"id": "1", "group": "g"}, {"id": "2", "group": "g", "target": "a b c d", "reasoning": "So."})
  test = write("test", {"id": "1", "input": "r", "group": "g"})
  told = report("--train", f"{train}[:2]", "--test", test, "--target_length", "4", "--recipes", "fine_tuning")
  warnings = told.split("warnings:\n")[1]
  assert f"1 row of train would be refused, target longer than --target_length 4 ({train}:2)" in warnings
  assert "set --target_length 5, or shorten them" in warnings
  assert f"1 of 2 rows of train ({train}:1) have no reasoning in the column 'reasoning'" in warnings
  assert "no answer could be read out of the reasoning of train" in warnings
  assert f"leak: 1 id in both train and test: the same id, as '1' ({train}:1 and {test}:1)" in warnings
  assert "leak: 1 group in both train and test: the same group, as 'g'" in warnings


def test_of_many_places_the_first_are_named(report, write):
  train = write("train", *({"id": str(n), "input": str(n)} for n in range(6)), {"id": "x", "reasoning": "So it is t"})
  warnings = report(*QUICK, "--train", train).split("warnings:\n")[1]
  assert f"6 of 7 rows of train ({train}:1, {train}:2, {train}:3 and 3 more) have no reasoning" in warnings
  assert f"1 of 1 (100.0 %) reasonings of train end without a sentence's end ({train}:7)" in warnings


def test_near_duplicates_are_leaks_across_splits_and_notes_within_one(report, write):
  train = write("train", {"id": "1", "input": SENTENCE}, {"id": "2", "input": f"{SENTENCE} now"})
  test = write("test", {"id": "3", "input": f"{SENTENCE} then"}, {"id": "4", "input": SENTENCE, "target": "u"})
  warnings = report(*QUICK, "--train", train, "--test", test, "--recipes", "fine_tuning").split("warnings:\n")[1]
  assert (
    f"1 row of train is nearly the same as another of another group ({train}:1 and {train}:2 (95 % alike))" in warnings
  )
  assert (
    "leak: 2 rows of test are nearly the same as a row of train of another group, 1 of them the same input with"
    in warnings
  )
  assert (
    f"another target ({train}:1 and {test}:2 (100 % alike); {train}:1 and {test}:1 (95 % alike)): remove" in warnings
  )


def test_labels_are_counted_and_unseen_ones_named(report, write):
  train = write("train", *({"id": str(n), "input": f"i{n}", "target": "yes" if n % 4 else "no"} for n in range(16)))
  test = write("test", {"id": "a", "input": "j", "target": "yes"}, {"id": "b", "input": "k", "target": "maybe"})
  told = report(*QUICK, "--train", train, "--test", test, "--recipes", "fine_tuning")
  assert (
    "  2 labels; always the commonest would be right in 75.0 %\n    yes  12 of 16 (75.0 %)\n    no   4 of 16" in told
  )
  assert f"1 row of test ({test}:2) have a label that no row of train has ('maybe')" in told


def test_the_longest_field_of_too_long_rows_is_named(report, write):
  train = write("train", {"id": "1", "passage": "long " * 60}, {"id": "2", "passage": "short"})
  told = report("--train", train, "--input", "{input} {passage}", "--source_length", "60", "--recipes", "fine_tuning")
  assert "longer than --source_length 60: 1 row (the longest field: passage in 1)" in told


def test_a_recipe_that_needs_reasoning_is_told_before_it_runs(report, write):
  train = write("train", {"id": "1"})
  assert "reasoning: no row has one" in report(*QUICK, "--train", train, "--recipes", "fine_tuning")
  told = report(*QUICK, "--train", train, "--recipes", "fiat")
  assert "and the recipe 'FIAT' needs it: name its column with --reasoning" in told


def test_without_the_model_all_but_the_lengths_is_told(report, write):
  told = report("--train", write("train", {"id": "1"}), "--model", "nothing_by_that_name")
  assert "1 row in 1 group" in told and "longer than" not in told
  assert "1 warning:\n  - lengths are not known: the model 'nothing_by_that_name' is no file or folder" in told


def test_an_instruction_that_only_some_recipes_can_use(report, write):
  train = write("train", {"id": "1", "reasoning": "The answer is t."})
  assert "give {reasoning} a line of its own" in report("--train", train, "--instruction", "{x} ({reasoning})")


def test_a_row_is_shown_as_the_model_receives_it(report, write):
  train = write("train", {"id": "1", "input": "Who?", "target": "me"}, {"id": "2", "input": "Where?"})
  told = report("--train", train, "--show", "1", "--recipes", "beta,fine_tuning", "--instruction", "Say.\n{x}")
  assert f"--- {train}:1 as fine-tuning sees it ---\n  chat template: the metadata of " in told
  assert (
    "  begin marks: 3 (<|im_start|>)\n  end marks: 2 (<|im_end|>) in the prompt, 1 (<|im_end|>) with loss\n" in told
  )
  assert "<|im_start|>user\nSay.\nWho?<|im_end|>\n<|im_start|>assistant\n⟦me<|im_end|>⟧\n" in told
  assert "Where?" not in told and "\x1b" not in told


def test_colour_is_for_terminals_that_show_it(monkeypatch: pytest.MonkeyPatch):
  monkeypatch.delenv("NO_COLOR", raising=False)
  monkeypatch.setenv("TERM", "xterm")
  assert examples.paint() is show.brackets
  monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
  assert examples.paint() is show.colour
  monkeypatch.setenv("TERM", "dumb")
  assert examples.paint() is show.brackets
  monkeypatch.setenv("TERM", "xterm")
  monkeypatch.setenv("NO_COLOR", "1")
  assert examples.paint() is show.brackets


def test_a_model_without_a_template_is_refused_unless_prompts_are_plain(
  report, write, tiny_checkpoint, tmp_path, capsys
):
  folder = tmp_path / "base"
  folder.mkdir()
  for file in tiny_checkpoint.iterdir():
    if file.name not in ("chat_template.jinja", "model.safetensors"):
      (folder / file.name).write_bytes(file.read_bytes())
  train = write("train", {"id": "1", "input": "Who?", "target": "me"})
  words = ["--train", train, "--model", str(folder), "--recipes", "fine_tuning"]
  assert cli.main(["validate", *words]) == 2
  assert capsys.readouterr().err.startswith(f"error: {folder}: the model has no chat template")
  told = report(*words, "--template", "plain", "--show", "1")
  assert "  chat template: none, plain text\n" in told and "\nWho?⟦me<|im_end|>⟧\n" in told


def test_no_split_is_an_error(capsys: pytest.CaptureFixture[str]):
  assert cli.main(["validate"]) == 2
  assert capsys.readouterr().err == ("error: no rows to look at: give --train FILE, --validation FILE or --test FILE\n")


def test_neither_jax_nor_tensorflow_is_imported(write):
  code = (
    "import sys\nfrom fiat_jax import cli\ncode = cli.main(['validate', '--train', sys.argv[1], '--show', '1'])\n"
    "sys.exit(code or ', '.join({'jax', 'flax', 'tensorflow', 'seqio', 'torch', 'grain'} & set(sys.modules)) or 0)\n"
  )
  run = subprocess.run([sys.executable, "-c", code, write("train", {"id": "1"})], capture_output=True, text=True)
  assert (run.returncode, run.stderr) == (0, "") and "no warnings" in run.stdout
