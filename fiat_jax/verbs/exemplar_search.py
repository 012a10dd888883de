"""How many exemplars, and which, a recipe shows that is asked in context: found on validation."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax.evaluation.evaluate import summarise
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.verbs import asking
from fiat_jax.verbs.asking import Asked
from fiat_jax.workbench import Workbench

SPLIT = "validation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Found:
  """The bench with the settings that validation prefers, and all that were tried, with their scores there."""

  bench: Workbench
  tried: Sequence[Mapping[str, Any]] = ()


def trials(settings: Settings, recipe: Recipe) -> list[dict[str, Any]]:
  """The changes of settings to try; nothing is changed where the recipe shows none, nor a number of its own."""
  if recipe.exemplars == "none" or recipe.overrides.get("SHOTS") == 0:
    return [{}]
  numbers = [{"shots": shots} for shots in settings.try_shots] if "SHOTS" not in recipe.overrides else []
  named = settings.try_shot_choices if recipe.exemplars == "shown" else ()
  choices = [{"shot_choice": choice} for choice in named]
  return [{**one, **other} for one, other in itertools.product(numbers or [{}], choices or [{}])]


def best(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> Found:
  """Asks about validation in every way that is to be tried; of equals the first is the best."""
  found = _ways(bench, recipe)
  if len(found) == 1:
    return Found(bench=found[0][1])
  tried = []
  for changes, under in found:
    say(f"{recipe.title}: trying {', '.join(f'--{setting} {value}' for setting, value in changes.items())}")
    asked = asking.prepare(under, recipe, folder, (SPLIT,))
    assert set(asked.plan.rows) == {SPLIT}, "what is chosen is chosen on validation"
    asking.ask(asked, under.models.let_go)
    answered = asking.predicted(asked, under.rows)[SPLIT]
    score = summarise(answered, under.settings.metrics)["overall"][under.settings.metrics[0]]
    tried.append({**changes, "validation": score})
  scores = [trial["validation"] for trial in tried]
  chosen = scores.index(max(scores))
  tried[chosen]["chosen"] = True
  return Found(bench=found[chosen][1], tried=tried)


def plans(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> list[Asked]:
  """All that may be asked: every trial, and test with the most exemplars."""
  found = _ways(bench, recipe)
  trying = [asking.prepare(under, recipe, folder, (SPLIT,)) for _, under in found] if len(found) > 1 else []
  _, most = max(found, key=lambda way: way[1].settings.shots)
  return [*trying, asking.prepare(most, recipe, folder)]


def _ways(bench: Workbench, recipe: Recipe) -> list[tuple[dict[str, Any], Workbench]]:
  return [
    (changes, bench.under(bench.configuration.replace(**changes)) if changes else bench)
    for changes in trials(bench.settings, recipe)
  ]
