"""The learning rate and the number of epochs of a recipe, found on validation: the same trials for each that trains."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax import processes, run_folder, run_lock
from fiat_jax.configuration import Configuration
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.verbs import replaced, seeds
from fiat_jax.verbs.tuning import train_recipe
from fiat_jax.workbench import Workbench

TRIED = "tried"  # the folder of the trials, beside those of the recipes
REPLACED = "replaced"  # in it, runs of settings that later trials have beaten
SEARCHED = ("LEARNING_RATE", "EPOCHS", "STEPS")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """The bench with the settings that validation prefers, and all that were tried, with their scores there."""

  bench: Workbench
  tried: Sequence[Mapping[str, Any]] = ()


def trials(settings: Settings, recipe: Recipe) -> list[dict[str, Any]]:
  """The changes of settings to try; a recipe with such of its own keeps to them."""
  own = set(recipe.overrides)
  tried = () if "LEARNING_RATE" in own else settings.try_learning_rates
  rates = [{"learning_rate": rate} for rate in tried] or [{}]
  tried = () if own & {"EPOCHS", "STEPS"} else settings.try_epochs
  epochs = [{"epochs": count, "steps": 0} for count in tried] or [{}]
  return [{**rate, **count} for rate, count in itertools.product(rates, epochs)]


def best(bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path, first: pathlib.Path) -> Found:
  """Trains with the first seed in every way that is to be tried; of equals the first is the best.

  The best trial's run becomes the recipe's, test left to be answered; one of other settings gives way to it.

  Args:
    folder: where the recipe's runs go.
    first: the run that the recipe begins with, if it begins with any.
  """
  settings, tried = bench.settings, []
  found = trials(settings, recipe)
  benches = [bench.under(bench.configuration.replace(**changes)) for changes in found]
  if len(found) == 1:
    return Found(bench=benches[0])
  homes = places(folder, found)
  for changes, under, home in zip(found, benches, homes, strict=True):
    say(f"{recipe.title}: trying {', '.join(f'--{setting} {value:g}' for setting, value in changes.items() if value)}")
    result = train_recipe(under, name, recipe, home, settings.seeds[0], first, judged=("validation",))
    assert "test" not in result, "what is chosen is chosen on validation"
    score = result["validation"]["overall"][settings.metrics[0]]
    tried.append({**changes, "validation": score, "best_step": result["best_step"], "steps": result["steps"]})
  scores = [trial["validation"] for trial in tried]
  chosen = scores.index(max(scores))
  tried[chosen]["chosen"] = True
  home = seeds.homes(folder, settings.seeds)[0]
  processes.by_first(lambda: adopt(bench.configuration, homes[chosen], folder, home))
  return Found(bench=benches[chosen], tried=tried)


def places(folder: pathlib.Path, found: Sequence[Mapping[str, Any]]) -> list[pathlib.Path]:
  """Where each trial's run is; `folder` is where the recipe's runs are."""
  return [folder.parent / TRIED / folder.name / _label(changes) for changes in found]


def _label(changes: Mapping[str, Any]) -> str:
  return "_".join(f"{setting}_{value:g}" for setting, value in changes.items() if setting != "steps")


def adopt(configuration: Configuration, trial: pathlib.Path, folder: pathlib.Path, home: pathlib.Path) -> None:
  """The trial's run goes on as the recipe's first, in `home`, with nothing left to train, if that was none like it.

  What was run with other settings, which fewer trials had found, is kept beside the trials.
  """
  if before := run_folder.recorded(home):
    now = run_folder.recorded(trial)
    if all(before.get(name) == now.get(name) for name in (*SEARCHED, f"{folder.name}/Recipe.overrides")):
      return
    replaced.set_aside(configuration, folder, folder.parent / TRIED / REPLACED)
  _copy(trial, home)


def _copy(trial: pathlib.Path, folder: pathlib.Path) -> None:
  partial = folder.with_name(f"{folder.name}.partial")
  shutil.rmtree(partial, ignore_errors=True)
  shutil.copytree(trial, partial, ignore=shutil.ignore_patterns("results.json", "predictions", run_lock.NAME))
  run_folder.call(partial, folder)
  folder.parent.mkdir(parents=True, exist_ok=True)
  partial.rename(folder)
