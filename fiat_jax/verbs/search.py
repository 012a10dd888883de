"""The learning rate and the number of epochs of a recipe, found on validation: as many trials for each."""

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
from fiat_jax.recipe import RATES, Recipe
from fiat_jax.settings import Settings
from fiat_jax.verbs import replaced, seeds
from fiat_jax.verbs.tuning import train_recipe
from fiat_jax.workbench import Workbench

TRIED = "tried"  # the folder of the trials, beside those of the recipes
REPLACED = "replaced"  # in it, runs of settings that later trials have beaten
SEARCHED = ("LEARNING_RATE", "EPOCHS", "STEPS")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """Bench and recipe with the settings that validation prefers, and all that were tried, with their scores there."""

  bench: Workbench
  recipe: Recipe
  tried: Sequence[Mapping[str, Any]] = ()


def trials(settings: Settings, recipe: Recipe) -> list[dict[str, Any]]:
  """The changes of settings to try, as many for every recipe: where one has such a setting of its own, its trials stand
  to that as the others' stand to what is set, or where nothing is set to what suits LoRA.

  Args:
    settings: of all recipes, without those that are the recipe's own.
  """
  own = recipe.overrides
  suiting = 0.0 if settings.learning_rate else recipe.learning_rate(str(own.get("OPTIMIZER", settings.optimizer)))
  rate = _ratio(own.get("LEARNING_RATE") or suiting, settings.learning_rate or RATES["lora"])
  count = _ratio(own.get("EPOCHS"), settings.epochs)
  rates = [{"learning_rate": _times(tried, rate)} for tried in settings.try_learning_rates] or [{}]
  if steps := own.get("STEPS"):
    count = _ratio(steps, settings.epochs)
    lengths = [{"steps": max(1, round(tried * count))} for tried in settings.try_epochs]
  else:
    lengths = [{"epochs": _times(tried, count), "steps": 0} for tried in settings.try_epochs]
  return [{**one, **length} for one, length in itertools.product(rates, lengths or [{}])]


def _ratio(own: Any, of_all: float) -> float:
  return own / of_all if own and of_all else 1.0


def _times(tried: float, ratio: float) -> float:
  return tried if ratio == 1 else float(f"{tried * ratio:.6g}")


def _under(bench: Workbench, name: str, recipe: Recipe, changes: Mapping[str, Any]) -> tuple[Workbench, Recipe]:
  """Bench and recipe with these settings; those that are the recipe's own are changed in it, too."""
  own = {setting.upper(): value for setting, value in changes.items() if setting.upper() in recipe.overrides}
  recipe = dataclasses.replace(recipe, overrides=recipe.overrides | own)
  configuration = bench.configuration.replace(**changes)
  recipes = {**configuration.recipes, name: recipe}
  return bench.under(dataclasses.replace(configuration, recipes=recipes)), recipe


def best(
  bench: Workbench,
  name: str,
  recipe: Recipe,
  folder: pathlib.Path,
  first: pathlib.Path,
  found: Sequence[Mapping[str, Any]],
) -> Found:
  """Trains with the first seed in every way that is to be tried; of equals the first is the best.

  The best trial's run becomes the recipe's, test left to be answered; one of other settings gives way to it.

  Args:
    folder: where the recipe's runs go.
    first: the run that the recipe begins with, if it begins with any.
    found: the changes to try, of `trials`.
  """
  settings, tried = bench.settings, []
  benches = [_under(bench, name, recipe, changes) for changes in found]
  if len(found) == 1:
    return Found(bench=benches[0][0], recipe=benches[0][1])
  homes = places(folder, found)
  for changes, (under, way), home in zip(found, benches, homes, strict=True):
    say(f"{recipe.title}: trying {', '.join(f'--{setting} {value:g}' for setting, value in changes.items() if value)}")
    result = train_recipe(under, name, way, home, settings.seeds[0], first, judged=("validation",))
    assert "test" not in result, "what is chosen is chosen on validation"
    score = result["validation"]["overall"][settings.metrics[0]]
    tried.append({**changes, "validation": score, "best_step": result["best_step"], "steps": result["steps"]})
  scores = [trial["validation"] for trial in tried]
  chosen = scores.index(max(scores))
  tried[chosen]["chosen"] = True
  home = seeds.homes(folder, settings.seeds)[0]
  processes.by_first(lambda: adopt(bench.configuration, homes[chosen], folder, home))
  return Found(bench=benches[chosen][0], recipe=benches[chosen][1], tried=tried)


def places(folder: pathlib.Path, found: Sequence[Mapping[str, Any]]) -> list[pathlib.Path]:
  """Where each trial's run is; `folder` is where the recipe's runs are."""
  return [folder.parent / TRIED / folder.name / _label(changes) for changes in found]


def _label(changes: Mapping[str, Any]) -> str:
  return "_".join(f"{setting}_{value:g}" for setting, value in changes.items() if value)


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
