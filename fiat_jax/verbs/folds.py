"""A comparison over folds: every row of DATA is a test row once, of models that learned from other folds' rows.

Each fold is a comparison in a folder of its own, `fold_0`, `fold_1`, …; what they answered is put together here, and
judged as one. A group of rows is in one fold as a whole.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiat_jax import processes
from fiat_jax.configuration import Configuration
from fiat_jax.data import audit, splits
from fiat_jax.errors import UserError
from fiat_jax.evaluation import diagnosis, report
from fiat_jax.evaluation.evaluate import read_predictions, read_scores, summarise, write_predictions
from fiat_jax.evaluation.statistics import Scored
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import budget as budgeting
from fiat_jax.verbs import comparison
from fiat_jax.verbs.budget import Budget, Forecast, Runs, forecasts
from fiat_jax.verbs.comparison import Compared
from fiat_jax.verbs.recipe_runs import UNAIDED, over_seeds


def run(configuration: Configuration) -> Compared | None:
  """Runs every fold's comparison, as far as it is not done; None where only the plan was asked for."""
  settings, folder = configuration.settings, pathlib.Path(configuration.settings.model_dir)
  if (folder / "splits.json").exists():
    raise UserError("holds a comparison on one split: give --folds a new --model_dir", folder)
  processes.check_alone(settings, "a comparison over folds")
  paths = splits.folds(settings.data, settings.folds, settings.split_seed)
  parts = [
    configuration.replace(**of, data="", folds=0, budget="", model_dir=str(_home(folder, n)))
    for n, of in enumerate(paths)
  ]
  names = _plan(configuration, parts[0])
  if settings.dry_run:
    return None
  compared = []
  for number, part in enumerate(parts):
    say(f"\nfold {number + 1} of {len(parts)}")
    found = comparison.run(part.replace(recipes=names))
    assert found, "no fold is only planned"
    compared.append(found)
  recipes = compared[0].recipes
  results = [_together(configuration, folder, name, compared) for name in recipes]
  return _written(configuration, folder, recipes, results)


def _home(folder: pathlib.Path, fold: int) -> pathlib.Path:
  return folder / f"fold_{fold}"


def _plan(configuration: Configuration, first: Configuration) -> tuple[str, ...]:
  """Says what all folds will take, the first standing for each; the recipes that the budget allows.

  Raises:
    UserError: those are none.
  """
  bench, chosen = comparison.prepare(first)
  count, budget = configuration.settings.folds, Budget.parse(configuration.settings.budget)
  of_one = forecasts(bench, chosen.recipes, pathlib.Path(first.settings.model_dir))
  found = [_times(one, count) for one in of_one]
  runs = Runs(found, budget)
  say(f"over {count} folds:\n{budgeting.table(found, runs.names, budget)}")
  if not runs.names:
    raise UserError(f"--budget {configuration.settings.budget} allows no run: raise it, or name cheaper --recipes")
  return tuple(name for name in chosen.recipes if name in runs.names)


def _times(one: Forecast, count: int) -> Forecast:
  minutes = None if one.minutes is None else count * one.minutes
  return dataclasses.replace(one, runs=count * one.runs, minutes=minutes, money=count * one.money, done=False)


def _together(
  configuration: Configuration, folder: pathlib.Path, name: str, compared: Sequence[Compared]
) -> dict[str, Any]:
  """One recipe's result over all folds, a run a seed; its answers to all rows are written."""
  found = [next(r for r in one.results if r["recipe"] == name) for one in compared]
  seeds = [run["seed"] for run in found[0]["seeds"]] if found[0].get("seeds") else [None]
  runs = []
  for place, seed in enumerate(seeds):
    home = pathlib.Path(name) if seed is None else pathlib.Path(name) / f"seed_{seed}"
    of_seed = [one["seeds"][place] if seed is not None else one for one in found]
    runs.append(_of_seed(configuration, folder, home, of_seed))
  kept = {"switches": found[0]["switches"]} if "switches" in found[0] else {}
  return {**over_seeds(runs), **kept, **of_beta(found)}


def of_beta(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """What the big model's answers took in all folds, from each fold's result; only what is known of every fold."""
  rows = [one["test"]["rows"] for one in found]
  result: dict[str, Any] = {
    key: statistics.fmean([one[key] for one in found], rows)
    for key in ("reasoning_cost", "reasoning_seconds")
    if all(key in one for one in found)
  }
  if all("reasoning_latency" in one for one in found):
    quantiles = found[0]["reasoning_latency"]
    result["reasoning_latency"] = {
      key: statistics.fmean([one["reasoning_latency"][key] for one in found], rows) for key in quantiles
    }
  return result


def _of_seed(
  configuration: Configuration, folder: pathlib.Path, home: pathlib.Path, found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """The run of one seed: its answers to each fold's rows, one after another, summed up."""
  names, homes = configuration.settings.metrics, [_home(folder, n) / home for n in range(len(found))]
  result = {key: found[0][key] for key in ("recipe", "title", "seed", "tuned_parameters", "shots") if key in found[0]}
  wanted = {"validation": "", "test": ""} | ({UNAIDED: UNAIDED} if all(UNAIDED in one for one in found) else {})
  for key, beside in wanted.items():
    file = f"{beside}/predictions/test.jsonl".lstrip("/") if key == UNAIDED else f"predictions/{key}.jsonl"
    answers = [answer for place in homes for answer in read_predictions(place / file)]
    reasoned = any(answer.row.reasoning is not None for answer in answers)
    write_predictions(folder / home / file, answers, names, with_reasoning=reasoned)
    result[key] = summarise(answers, names)
  if all("test" in one.get("answer_seconds", {}) for one in found):
    result["answer_seconds"] = {"test": sum(one["answer_seconds"]["test"] for one in found)}
  if all("latency" in one for one in found):
    result["latency"] = {key: statistics.fmean(one["latency"][key] for one in found) for key in ("p50", "p95")}
  return result


def _written(
  configuration: Configuration, folder: pathlib.Path, recipes: Mapping[str, Recipe], results: list[dict[str, Any]]
) -> Compared:
  """Judges all rows as one, and writes results and pages."""
  names, metric = configuration.settings.metrics, configuration.settings.metrics[0]
  homes = {r["recipe"]: _runs(folder, r) for r in results}
  asked = [answer.row for answer in read_predictions(next(iter(homes.values()))[0] / "predictions" / "test.jsonl")]
  files = {name: [home / "predictions" / "test.jsonl" for home in found] for name, found in homes.items()}
  scores = {name: np.array([read_scores(file, metric) for file in found]) for name, found in files.items()}
  langs, groups = [row.lang for row in asked], [row.group for row in asked]
  scored = Scored(scores=scores, langs=langs, groups=groups)
  found = comparison.judge(recipes, results, scored, metric, apart=False)
  of_folds = [json.loads((_home(folder, n) / "results.json").read_text()) for n in range(configuration.settings.folds)]
  warnings = [*dict.fromkeys(warning for of in of_folds for warning in of["warnings"])]
  said = {
    "folds": len(of_folds),
    "could_show": report.power_line(langs, groups),
    "warnings": [*warnings, *diagnosis.doubts(results, names, "test")],
    "not_run": of_folds[0]["not_run"],
    "planned": list(recipes),
    "recipes": results,
    "programs": {key: sum(of["programs"][key] for of in of_folds) for key in ("made", "found")},
    "rows": {"test": audit.languages(asked)},
  }
  comparison.write(configuration, folder, said, found)
  return Compared(recipes=recipes, results=results, verdict=found)


def _runs(folder: pathlib.Path, result: Mapping[str, Any]) -> list[pathlib.Path]:
  home = folder / result["recipe"]
  return [home / f"seed_{run['seed']}" for run in result["seeds"]] if result.get("seeds") else [home]
