"""Settings that are searched for again: a run that later trials beat gives way, and what that takes is foretold."""

from __future__ import annotations

from pathlib import Path

from commands import write_questions

from fiat_jax.configuration import configure
from fiat_jax.verbs import budget, search
from fiat_jax.workbench import Workbench

LEARNED = "the recipe's run has learned with the rate that won"


def run_of(folder: Path, name: str, rate: str, text: str) -> Path:
  (home := folder / name).mkdir(parents=True)
  (home / "config.gin").write_text(f"LEARNING_RATE = {rate}\nMODEL_DIR = {str(home)!r}\n")
  (home / "answers").write_text(text)
  return home


def test_a_run_that_a_later_trial_beats_is_kept_beside_the_trials(tmp_path):
  configuration = configure([], [], {})
  better = run_of(tmp_path, "tried/distilled/learning_rate_0.01", "0.01", "better")
  run = run_of(tmp_path, "distilled", "0.001", "old")
  run_of(tmp_path, "sizes/distilled/8", "0.001", "old, of 8")
  run_of(tmp_path, "distilled_then_fiat", "0.001", "went on from the old")
  run_of(tmp_path, "tried/distilled_then_fiat/learning_rate_0.001", "0.001", "went on from the old")
  run_of(tmp_path, "fine_tuning", "0.001", "another")
  for _ in range(2):
    search.adopt(configuration, better, run, run)
  assert (run / "answers").read_text() == "better" and str(run) in (run / "config.gin").read_text(), LEARNED
  kept = tmp_path / "tried" / "replaced"
  found = {str(path.relative_to(kept)): path.read_text() for path in kept.rglob("answers")}
  assert found == {
    "distilled_0/run/answers": "old",
    "distilled_0/sizes/8/answers": "old, of 8",
    "distilled_then_fiat_0/run/answers": "went on from the old",
    "distilled_then_fiat_0/tried/learning_rate_0.001/answers": "went on from the old",
  }
  assert (tmp_path / "fine_tuning" / "answers").exists() and not (tmp_path / "distilled_then_fiat").exists()


def done(*homes: Path) -> None:
  for home in homes:
    home.mkdir(parents=True)
    (home / "results.json").write_text("{}")


def test_what_is_tried_later_is_foretold(tmp_path):
  rows, run = write_questions(tmp_path), tmp_path / "run"
  files = {split.upper(): str(rows / f"{split}.jsonl") for split in ("train", "validation", "test")}

  def left(**flags: str) -> float:
    bench = Workbench(configure([], [], files | flags))
    return budget.trainings(bench, bench.configuration.recipe("fine_tuning"), run / "fine_tuning")

  assert left(SEEDS="0,1") == 2
  done(run / "fine_tuning" / "seed_0", run / "fine_tuning" / "seed_1")
  assert left(SEEDS="0,1") == 0 and left(SEEDS="0,1,2") == 1
  assert left(SEEDS="0,1", TRY_SIZES="2,4,8") == 2 * (2 + 4) / 8
  done(run / "sizes" / "fine_tuning" / "2" / "seed_0")
  assert left(SEEDS="0,1", TRY_SIZES="2,4,8") == 2 * (2 + 4) / 8 - 2 / 8
  rates = {"SEEDS": "0,1", "TRY_LEARNING_RATES": "0.001,0.01"}
  assert left(**rates) == 2 + 1, "the runs may all have to be others"
  done(*(run / "tried" / "fine_tuning" / f"learning_rate_{rate}" for rate in ("0.001", "0.01")))
  assert left(**rates) == 0 and left(**rates | {"TRY_LEARNING_RATES": "0.001,0.01,0.1"}) == 1 + 1
