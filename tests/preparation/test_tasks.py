"""Every task's sample goes through validate, two steps of training and evaluation, and imports as a SeqIO task."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import sys

import pytest

from fiat_jax import cli
from fiat_jax.data.task_files import files, settings
from fiat_jax.models import pretrained
from fiat_jax.preparation.registry import SETS
from fiat_jax.resources import shipped

pytestmark = pytest.mark.compiled_quickly

ROOT = pathlib.Path(__file__).parents[2]
# Tested elsewhere, and the tasks of a suite scored otherwise.
NOT_HERE = ("mini_xqa", "instructeval", "mmlu_likelihood", "crass_likelihood")
NOT_HERE += ("impact",)  # nothing can be validated by a judge: tests/reasoning/test_judge.py
TASKS = sorted(file.stem for file in (shipped("gin") / "tasks").glob("*.gin") if file.stem not in NOT_HERE)
WITH_REASONING = ("commonsense_qa", "svamp", "esnli", "anli", "bbh")
BRIEF = ("--batch", "2", "--steps", "2", "--validate_every", "2", "--slots", "4")


@pytest.fixture(scope="module")
def samples():
  for name in SETS:
    assert cli.main(["prepare", name, "--sample", "--quiet"]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_sample_is_validated_trained_on_and_evaluated(task, samples, tiny_checkpoint, tmp_path, capsys):
  named = files(settings(task))
  recipe = "fiat" if task in WITH_REASONING else "fine_tuning"
  words = ["--gin_file", f"gin/tasks/{task}.gin", "--model", str(tiny_checkpoint), "--model_dir", str(tmp_path / "run")]
  words += ["--recipes", recipe, "--template", "plain", *BRIEF]
  words += ["--test", named["validation"]] if task == "flan_mini" else []
  words += ["--allow_code_execution", "True", "--target_length", "16"] if task == "humaneval" else []
  if "train" not in named and "DATA" not in named:
    words += ["--train", named["test"], "--validation", named["test"]]
  for verb in ("validate", "train"):
    assert cli.main([verb, *words]) == 0, capsys.readouterr().err
  words = ["--model_dir", str(tmp_path / "run"), "--output", str(tmp_path / "evaluated")]
  assert cli.main(["evaluate", *words]) == 0, capsys.readouterr().err
  evaluated = json.loads((tmp_path / "evaluated" / "evaluation_test.json").read_text())["test"]
  trained = json.loads((tmp_path / "run" / "results.json").read_text())["test"]
  assert evaluated == trained and evaluated["rows"] > 0
  assert list(evaluated["overall"]) == list(settings(task)["METRICS"])


@pytest.mark.slow
def test_a_suite_reads_its_model_once_and_ends_in_a_table_of_its_tasks(
  samples, tiny_checkpoint, tmp_path, monkeypatch, capsys
):
  read = []
  monkeypatch.setattr(pretrained, "load", lambda described, load=pretrained.load: read.append(1) or load(described))
  words = ["--gin_file", "gin/tasks/instructeval.gin", "--recipes", "untuned_without_reasoning"]
  words += ["--model", str(tiny_checkpoint), "--output", str(tmp_path / "suite"), "--slots", "4"]
  assert cli.main(["evaluate", *words]) == 0, capsys.readouterr().err
  printed = capsys.readouterr()
  *_, table = printed.out.rstrip().split("\n\n")
  assert "humaneval is left out: the metric 'pass_at_1' runs code" in printed.err
  assert "impact is left out: the metric 'relevance' is the judgement of a big model" in printed.err
  cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
  assert [(task, metric) for task, _, metric, *_ in cells] == [
    ("mmlu", "starts_with"),
    ("mmlu_likelihood", "accuracy"),
    ("bbh_few_shot", "starts_with"),
    ("bbh_few_shot", "accuracy"),
    ("drop", "starts_with"),
    ("drop", "f1_drop"),
    ("drop", "exact_match_drop"),
    ("crass", "starts_with"),
    ("crass_likelihood", "accuracy"),
  ]
  assert (tmp_path / "suite" / "drop" / "predictions" / "test.jsonl").exists()
  assert len(read) == 1


@pytest.mark.slow
@pytest.mark.parametrize("run", ["xtreme_up_indic", "xtreme_up_full", "xor_attriqa"])
def test_the_papers_runs_do_what_needs_no_reasoning_where_there_is_none(
  run, samples, tiny_checkpoint, tmp_path, capsys
):
  words = ["--gin_file", f"gin/runs/{run}.gin", "--model", str(tiny_checkpoint), "--base_model", str(tiny_checkpoint)]
  words += ["--template", "plain", "--model_dir", str(tmp_path / "run"), "--dry_run"]
  assert cli.main(["compare", *words]) == 0, capsys.readouterr().err
  printed = "".join(capsys.readouterr())
  assert re.search(r"^FIAT; .*beta alone.*: not run: need the big model's reasoning", printed, re.MULTILINE)
  assert "| LoRA alone " in printed and "| full fine-tuning, base model " in printed


def test_a_suite_whose_rows_are_not_prepared_begins_nothing(tmp_path, capsys, monkeypatch):
  monkeypatch.setenv("FIAT_CACHE", str(tmp_path))
  words = ["--gin_file", "gin/tasks/instructeval.gin", "--recipes", "untuned_without_reasoning"]
  assert cli.main(["evaluate", *words, "--output", str(tmp_path / "suite")]) == 2
  assert "prepared:mmlu:test: is not there yet: fiat prepare mmlu" in capsys.readouterr().err
  assert not (tmp_path / "suite").exists()


SCRIPT = """
import importlib, json
import seqio
found = {}
for name in NAMES:
  module = importlib.import_module(f"tasks.{name}")
  task = seqio.TaskRegistry.get(module.TASKS[0].name)
  example = next(task.get_dataset({"inputs": 8192, "targets": 256}, task.splits[0], shuffle=False).as_numpy_iterator())
  found[name] = [len(module.TASKS), example["inputs_pretokenized"].decode(), example["targets_pretokenized"].decode()]
import tasks.flan_mini
mixture = tasks.flan_mini.MIXTURES[0]
lengths = {"inputs": 512, "targets": 512}
mixed = mixture.get_dataset(lengths, "train", shuffle=False, num_epochs=None, copy_pretokenized=True)
drawn = [example["targets_pretokenized"].decode() for example in mixed.take(400).as_numpy_iterator()]
found["flan_mini"] = [drawn.count(text) / 400 for text in ("Yes.", "Little.", "Lake Geneva.")]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_modules_under_tasks_register_what_a_seqio_trainer_names(samples):
  names = [name for name in SETS if name != "flan_mini"]
  run = subprocess.run(
    [sys.executable, "-c", SCRIPT.replace("NAMES", repr(names))], cwd=ROOT, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stderr[-2000:]
  found = json.loads(run.stdout)
  assert found["xtreme_up"][0] == 8 and found["xor_attriqa"][0] == 6 and found["commonsense_qa"][0] == 4
  assert "question: " in found["xtreme_up"][1] and " context: " in found["xtreme_up"][1]
  assert found["xor_attriqa"][2] in ("True", "False")
  published = [388 / 1340, 320 / 1340, 60 / 1340]  # flan2021, p3 and share_gpt
  assert found["flan_mini"] == pytest.approx(published, abs=0.08)
