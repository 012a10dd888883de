"""Settings that are searched for again: a run that later trials beat gives way, and what that takes is foretold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import results, runner, write_questions

from fiat_jax.configuration import configure
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import forecast, search
from fiat_jax.workbench import Workbench

pytestmark = pytest.mark.compiled_quickly
LEARNED = "the recipe's run has learned with the rate that won"


def test_every_recipe_gets_as_many_trials_around_settings_of_its_own():
  flags = {"TRY_LEARNING_RATES": "0.0005,0.001,0.02", "TRY_EPOCHS": "1,4", "LEARNING_RATE": "0.001", "EPOCHS": "2"}
  settings = configure([], [], flags).settings
  found = search.trials(settings, Recipe())
  assert len(found) == 6 and found[1] == {"learning_rate": 0.0005, "epochs": 4.0, "steps": 0}
  own = search.trials(settings, Recipe(overrides={"LEARNING_RATE": 0.003, "STEPS": 100}))
  assert own[1] == {"learning_rate": 0.0015, "steps": 200} and own[-1] == {"learning_rate": 0.06, "steps": 200}
  own = search.trials(settings, Recipe(overrides={"EPOCHS": 10.0}))
  assert [trial["epochs"] for trial in own] == [5.0, 20.0] * 3 and own[0]["learning_rate"] == 0.0005
  shipped = configure([], [], {})
  assert all(search.trials(shipped.settings, recipe) == [{}] for recipe in shipped.recipes.values())
  nothing = configure([], [], {"TRY_EPOCHS": "1,4", "EPOCHS": "0"}).settings
  assert search.trials(nothing, Recipe(overrides={"EPOCHS": 10.0}))[1] == {"epochs": 4.0, "steps": 0}


@pytest.mark.parametrize(
  ("recipe", "own"), [("fiat_ia3", 0.003), ("fiat_prompt", 0.03), ("fiat_full", 0.0001), ("distilled_published", 5e-5)]
)
def test_shipped_recipes_that_want_a_rate_of_their_own_are_searched_like_the_others(recipe, own):
  found = configure([], [], {"TRY_LEARNING_RATES": "0.0005,0.001"})
  rates = [trial["learning_rate"] for trial in search.trials(found.settings, found.recipe(recipe))]
  assert rates == pytest.approx([own / 2, own])


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

  def left(**flags: str) -> list[tuple[int, bool]]:
    """The rows of each run that is still to be made, and whether it answers test."""
    bench = Workbench(configure([], [], files | flags))
    runs = forecast.runs_left(bench, bench.configuration.recipe("fine_tuning"), run / "fine_tuning")
    return [(run.rows, run.test) for run in runs]

  whole, trial, of_test = (8, True), (8, False), (0, True)
  assert left(SEEDS="0,1") == [whole] * 2
  done(run / "fine_tuning" / "seed_0", run / "fine_tuning" / "seed_1")
  assert left(SEEDS="0,1") == [] and left(SEEDS="0,1,2") == [whole]
  assert left(SEEDS="0,1", TRY_SIZES="2,4,8") == [(2, True)] * 2 + [(4, True)] * 2
  done(run / "sizes" / "fine_tuning" / "2" / "seed_0")
  assert left(SEEDS="0,1", TRY_SIZES="2,4,8") == [(2, True)] + [(4, True)] * 2
  rates = {"SEEDS": "0,1", "TRY_LEARNING_RATES": "0.001,0.01"}
  assert left(**rates) == [trial, trial, whole, of_test], "the runs may all have to be others"
  done(*(run / "tried" / "fine_tuning" / f"learning_rate_{rate}" for rate in ("0.001", "0.01")))
  assert left(**rates) == []
  assert left(**rates | {"TRY_LEARNING_RATES": "0.001,0.01,0.1"}) == [trial, whole, of_test]


def test_long_trials_are_foretold_as_long(tmp_path):
  rows = write_questions(tmp_path)
  files = {split.upper(): str(rows / f"{split}.jsonl") for split in ("train", "validation", "test")}
  bench = Workbench(configure([], [], files | {"TRY_EPOCHS": "1,20", "SEEDS": "0,1"}))
  runs = forecast.runs_left(bench, bench.configuration.recipe("fine_tuning"), tmp_path / "run" / "fine_tuning")
  assert [run.changes.get("epochs") for run in runs if run.rows] == [1, 20, 20]


@pytest.mark.slow
def test_a_search_is_widened_when_the_runs_are_done(tiny_checkpoint, tmp_path):
  model = ["--model", str(tiny_checkpoint), "--batch", "4", "--steps", "1", "--target_length", "4", "--slots", "4"]
  model += ["--gin.fine_tuning_ia3/Recipe.overrides={'LEARNING_RATE': 0.003}"]
  run, folder = runner(write_questions(tmp_path), *model, "--recipes", "fine_tuning_ia3"), tmp_path / "run"
  run("compare", folder)
  before = results(folder / "fine_tuning_ia3")
  for rates in ("0.001,0.01", "0.001,0.01,0.1"):
    run("compare", folder, "--try_learning_rates", rates)
    (found,) = results(folder)["recipes"]
    (chosen,) = (trial["learning_rate"] for trial in found["tried"] if trial.get("chosen"))
    config = (folder / "fine_tuning_ia3" / "config.gin").read_text()
    assert f"LEARNING_RATE = {chosen}" in config and f"{{'LEARNING_RATE': {chosen}}}" in config, LEARNED
  assert [trial["learning_rate"] for trial in found["tried"]] == pytest.approx([0.003, 0.03, 0.3])
  kept = [json.loads(file.read_text()) for file in folder.rglob("results.json")]
  assert before in kept
