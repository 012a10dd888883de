"""x of rows that a tuned model answers is made of the columns that training read, whatever else they hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import fiat_jax
from fiat_jax import cli
from fiat_jax.configuration import configure
from fiat_jax.data.row import row_of
from fiat_jax.data.rows import digest
from fiat_jax.errors import UserError
from fiat_jax.workbench import columns

pytestmark = pytest.mark.compiled_quickly

READING = {"question": "who?", "passage": "it was {me}", "target": "me", "lang": "en"}


def template(folder: Path, *rows: dict[str, Any], **flags: str) -> tuple[str, Any]:
  """What stands in for an empty INPUT after training on these rows, and a layout with it."""
  file = folder / "train.jsonl"
  file.write_text("\n".join(json.dumps({**row, "id": str(n)}) for n, row in enumerate(rows)))
  made = columns.template(configure([], [], {"TRAIN": str(file), **flags}).settings)
  return made, configure([], [], {"INPUT": made}).settings.layout


def x(record: dict[str, Any], layout: Any) -> str:
  return row_of(record, layout, Path("row"), 1, labelled=False).x


def test_rows_are_read_as_training_read_them_and_one_that_lacks_a_column_is_refused(tmp_path):
  made, layout = template(tmp_path, READING, {**READING, "passage": "you"})
  assert made == "question: {question}\npassage: {passage}"
  empty = configure([], [], {}).settings.layout
  assert x(READING, layout) == x(READING, empty) == "question: who?\npassage: it was {me}"
  assert x({"passage": "it was {me}", "title": "new", "question": "who?"}, layout) == x(READING, empty)
  with pytest.raises(UserError, match=r"has no field 'passage' \(unknown; did you mean pasage"):
    x({"question": "who?", "pasage": "it was me"}, layout)


def test_rows_that_are_read_so_anyhow_stay_as_training_tokenised_them(tmp_path):
  def asked(row: dict[str, Any]) -> str:
    files = {}
    for split, found in (("TRAIN", READING), ("TEST", row)):
      files[split] = str(tmp_path / f"{split}.jsonl")
      Path(files[split]).write_text(json.dumps(found))
    return columns.as_trained(configure([], [], files), "test").settings.input

  assert asked({**READING, "question": "what?"}) == ""
  made = "question: {question}\npassage: {passage}"
  assert asked({**READING, "title": "new"}) == asked({**READING, "number": 1}) == made
  assert asked({"passage": "it was me", "question": "who?", "target": "me"}) == made


def test_the_column_input_stands_alone(tmp_path):
  made, layout = template(tmp_path, {"input": "1 + 1", "note": "a", "target": "2"})
  assert made == "{input}" and x({"input": "1 + 1"}, layout) == "1 + 1"
  with pytest.raises(UserError, match="has no field 'input'"):
    x({"inputs": "1 + 1"}, layout)


def test_a_name_with_braces_is_text_or_no_template_is_made(tmp_path):
  assert template(tmp_path, {"a": "1", "b:c": "2", "target": "3"})[0] == ""
  assert template(tmp_path, {"a}": "1", "target": "3"})[0] == ""


def test_what_a_template_cannot_say_is_left_as_it_was_and_said(tmp_path, capsys):
  assert template(tmp_path, READING, {"question": "what?", "target": "it"})[0] == ""
  assert "rows differ in their columns" in capsys.readouterr().err
  assert template(tmp_path, {"instruction": "add", "input": "1 + 1", "output": "2"})[0] == ""
  assert (
    template(tmp_path, {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})[0] == ""
  )


def test_training_rows_that_changed_since_are_refused(tmp_path):
  train, run, new = tmp_path / "train.jsonl", tmp_path / "run", '{"question": "what?", "title": "t"}'
  train.write_text(json.dumps(READING))
  run.mkdir()
  (run / "config.gin").write_text(f"# train: {digest(str(train))}\n")
  (tmp_path / "test.jsonl").write_text(new)
  files = {"TRAIN": str(train), "TEST": str(tmp_path / "test.jsonl"), "MODEL_DIR": str(run)}
  assert columns.as_trained(configure([], [], files)).settings.input == "question: {question}\npassage: {passage}"
  train.write_text(json.dumps({**READING, "title": "added since"}))
  with pytest.raises(UserError, match=r"train\.jsonl: the rows changed since .*run was trained on them, .* --input"):
    columns.as_trained(configure([], [], files))
  assert columns.as_trained(configure([], [], {**files, "INPUT": "{question}"})).settings.input == "{question}"
  columns.as_trained(configure([], [], {**files, "RECIPES": "untuned"}))  # nothing was trained
  train.unlink()
  columns.check_unchanged(configure([], [], files).settings)  # `template` says that they are gone


def test_a_template_of_the_user_s_is_kept(tmp_path):
  assert template(tmp_path, READING, INPUT="{question}")[0] == "{question}"


@pytest.mark.slow
def test_a_run_answers_rows_of_its_own_columns_wherever_they_come_from(tmp_path, tiny_checkpoint, capsys):
  rows = [{"question": f"what is {n}?", "passage": f"it is {n}", "target": str(n)} for n in range(12)]

  def table(name: str, found: list[dict[str, str]]) -> str:
    (tmp_path / name).write_text("\n".join(map(json.dumps, found)))
    return str(tmp_path / name)

  splits = ["--train", table("train.jsonl", rows[:8]), "--validation", table("dev.jsonl", rows[8:])]
  words = [*splits, "--model", str(tiny_checkpoint), "--recipes", "fine_tuning", "--steps", "1"]
  run, out = str(tmp_path / "run"), tmp_path / "answers.jsonl"
  noted = [{"note": "new", "passage": row["passage"], "question": row["question"], "target": "1"} for row in rows[:3]]
  assert cli.main(["train", *words, "--test", table("noted.jsonl", noted), "--model_dir", run]) == 0
  told = capsys.readouterr().err
  assert "warning: x of test is made of note, passage, question, that of train of question, passage" in told
  tuned, file = fiat_jax.load(run), table("noted.jsonl", noted)
  assert cli.main(["predict", "--model_dir", run, "--test", file, "--output", str(out)]) == 0
  answered = [json.loads(line)["prediction"] for line in out.open()]
  assert answered == tuned.predict(noted) == tuned.predict(rows[:3])
  assert (
    cli.main(["evaluate", "--model_dir", run, "--test", table("poor.jsonl", [{"question": "", "target": "1"}])]) == 2
  )
  assert "the row has no field 'passage'" in capsys.readouterr().err
  (tmp_path / "train.jsonl").unlink()
  assert cli.main(["predict", "--model_dir", run, "--test", file, "--output", str(out)]) == 0
  assert "x is made of whatever columns a row has, not of those that were trained on" in capsys.readouterr().err
