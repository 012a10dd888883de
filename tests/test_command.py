"""The command as its own process: where something is refused late, no library says a word beside our line.

Most of what can be refused is tested in `test_bad_input.py`, without the price of a process each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fiat_jax import cli, flags
from fiat_jax.configuration import configure
from fiat_jax.run_folder import claim
from fiat_jax.verbs.train import DEFAULT_RECIPES
from fiat_jax.workbench import Workbench

pytestmark = pytest.mark.compiled_quickly

ROWS = [
  {"id": "a", "input": "What is 1 + 1?", "target": "2", "reasoning": "Count on. So the answer is 2."},
  {"id": "b", "input": "Who wrote this, and why?", "target": "nobody at all knows", "reasoning": "The answer is me."},
]


@pytest.fixture
def rows(tmp_path: Path) -> str:
  (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
  return "rows.jsonl"


def fiat(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
  environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
  return subprocess.run(
    [sys.executable, "-m", "fiat_jax", *words], cwd=folder, capture_output=True, text=True, env=environment
  )


def refused(folder: Path, *words: str) -> str:
  """Runs a command that must be refused and leave the folder as it was; returns its one line."""
  before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
  run = fiat(folder, *words)
  assert (run.returncode, run.stdout) == (2, "")
  assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1, run.stderr
  assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before, "something was left behind"
  return run.stderr


LATE = {
  ("--target_length", "3"): "rows.jsonl:2: 1 of 2 rows have a target longer than --target_length 3; the longest has 6",
  ("--lora_targets", "nothing"): "match no projection; there are",
  ("--recipes", "fiat", "--reasoning", "why"): "rows.jsonl: no row has the column 'why' that --reasoning names",
  ("--model", "nobody/nothing-by-this-name"): "nobody/nothing-by-this-name",
  ("--gin_file", "absent.gin"): "Unable to open file: absent.gin",
  ("--model_dir", "rows.jsonl"): "is not empty and holds no config.gin",
}


@pytest.mark.parametrize("words", LATE, ids=" ".join)
def test_one_line_and_nothing_left_behind(words: tuple[str, ...], rows: str, tiny_checkpoint: Path, tmp_path: Path):
  base = ["--model", str(tiny_checkpoint), "--train", rows, "--validation", rows, "--model_dir", "run"]
  assert LATE[words] in refused(tmp_path, "train", *base, *words)


def test_a_checkpoint_cut_in_half(rows: str, smollm2_path: Path, tmp_path: Path):
  whole = smollm2_path.read_bytes()
  (tmp_path / "cut.gguf").write_bytes(whole[: len(whole) // 2])
  words = ["train", "--model", "cut.gguf", "--train", rows, "--validation", rows, "--model_dir", "run"]
  assert "cut.gguf: the file is cut short" in refused(tmp_path, *words)


def test_the_folder_of_another_configuration(rows: str, tiny_checkpoint: Path, tmp_path: Path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  settings = {"model": str(tiny_checkpoint), "train": rows, "validation": rows, "model_dir": "run"}
  words = [word for name, value in settings.items() for word in (f"--{name}", value)]
  claim_as_train_does(words)
  (tmp_path / "run" / "metrics.jsonl").touch()  # it began
  before = (tmp_path / "run" / "config.gin").read_bytes()
  message = refused(tmp_path, "train", *words, "--learning_rate", "0.5")
  assert "run: holds a run of another configuration (LEARNING_RATE was 0.0, now 0.5): give a new" in message
  assert (tmp_path / "run" / "config.gin").read_bytes() == before


def claim_as_train_does(words: list[str]) -> None:
  given = flags.parse(words)
  configuration = configure([], [], given.settings).replace(recipes=(DEFAULT_RECIPES["answer"],))
  bench = Workbench(configuration)
  recipes = [configuration.recipe(DEFAULT_RECIPES["answer"])]
  bench.prepare(recipes)
  claim(Path("run"), configuration.text(), bench.fingerprints(recipes))


def test_help_is_quick_and_names_every_setting(tmp_path: Path):
  for verb in cli.VERBS:
    run = fiat(tmp_path, verb, "--help")
    assert (run.returncode, run.stderr) == (0, "") and "--learning_rate NUMBER" in run.stdout
  assert "compare" in fiat(tmp_path).stdout


def test_a_reader_who_leaves_is_no_error(rows: str, tmp_path: Path):
  command = f"{sys.executable} -m fiat_jax validate --train {rows} --model no_model | true"
  run = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], cwd=tmp_path, capture_output=True, text=True)
  assert (run.returncode, run.stderr) == (0, "")
