"""A comparison over folds: every row of DATA is a test row once, of models that learned from other folds' rows.

Each fold is a comparison in a folder of its own, `fold_0`, `fold_1`, …; what they answered is put together here, and
judged as one. A group of rows is in one fold as a whole.
"""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiat_jax import launcher, run_folder
from fiat_jax.configuration import Configuration
from fiat_jax.data import audit, splits
from fiat_jax.evaluation import diagnosis, report
from fiat_jax.evaluation.evaluate import read_predictions, read_scores
from fiat_jax.evaluation.statistics import Scored
from fiat_jax.models.pretrained import Weights
from fiat_jax.progress import say
from fiat_jax.verbs import budget as budgeting
from fiat_jax.verbs import comparison, folded, record
from fiat_jax.verbs.budget import Budget
from fiat_jax.verbs.choice import Choice
from fiat_jax.verbs.fold_runs import FoldRuns
from fiat_jax.verbs.forecast import forecasts
from fiat_jax.verbs.record import Compared
from fiat_jax.whole import read_result
from fiat_jax.workbench import Workbench


def run(configuration: Configuration) -> Compared | None:
  """Runs every fold's comparison, as far as it is not done; None where only the plan was asked for."""
  settings, folder = configuration.settings, pathlib.Path(configuration.settings.model_dir)
  launcher.check_alone(settings, "a comparison over folds")
  paths = splits.folds(settings.data, settings.folds, settings.split_seed)
  parts = [
    configuration.replace(**of, data="", folds=0, budget="", model_dir=str(folded.home(folder, n)))
    for n, of in enumerate(paths)
  ]
  run_folder.require_own(folder)
  weights: list[Weights] = []  # read once for all folds
  bench, chosen = comparison.prepare(parts[-1].replace(budget=settings.budget), weights)
  whole, used = configuration.replace(recipes=tuple(chosen.recipes)).text(), bench.fingerprints(chosen.recipes.values())
  with run_folder.occupied(folder, whole, used, widens=True, bare=bench.bare_fingerprints()):
    runs = _plan(configuration, parts, bench, chosen)
    del bench  # its rows: every fold has its own
    if settings.dry_run:
      return None
    run_folder.widen(folder, whole, used)
    done, found = list[Compared](), None
    for n, part in enumerate(parts):
      say(f"\nfold {n + 1} of {len(parts)}")
      allowed = runs.begin(n)
      fold = comparison.run(part.replace(recipes=tuple(name for name in chosen.recipes if name in allowed)), weights)
      assert fold, "no fold is only planned"
      done.append(fold)
      found = _written(configuration, folder, chosen, runs, done)
    return found


def _plan(configuration: Configuration, parts: Sequence[Configuration], bench: Workbench, chosen: Choice) -> FoldRuns:
  """Says what all folds will take; the last one's rows, tokenised, stand for the others'.

  Args:
    bench: of the last.

  Raises:
    UserError: the budget allows nothing.
  """
  settings = configuration.settings
  of_folds = [
    forecasts(Workbench(part), chosen.recipes, pathlib.Path(part.settings.model_dir), like=bench) for part in parts
  ]
  runs = FoldRuns(of_folds, Budget.parse(settings.budget), paid=lambda: budgeting.paid_on(settings.store))
  rows = [row for split in bench.rows.values() for row in split]
  seeds = record.seeds(configuration, chosen.recipes)
  power = report.power_line([row.lang for row in rows], [row.group for row in rows], seeds)
  say(f"over {len(parts)} folds, each row once, {power}")
  say(f"over {len(parts)} folds:\n{runs.shown}")
  return runs


def _written(
  configuration: Configuration, folder: pathlib.Path, chosen: Choice, runs: FoldRuns, done: Sequence[Compared]
) -> Compared:
  """Judges the rows of the folds that are done as one, and writes results and pages; a verdict where all are."""
  recipes = {name: recipe for name, recipe in chosen.recipes.items() if name in runs.names}
  of = {name: [one for fold in done for one in fold.results if one["recipe"] == name] for name in recipes}
  results = [folded.result(configuration, folder, name, found) for name, found in of.items()]
  names, metric = configuration.settings.metrics, configuration.settings.metrics[0]
  homes = {r["recipe"]: _runs(folder, r) for r in results}
  asked = [answer.row for answer in read_predictions(next(iter(homes.values()))[0] / "predictions" / "test.jsonl")]
  files = {name: [home / "predictions" / "test.jsonl" for home in found] for name, found in homes.items()}
  scores = {name: np.array([read_scores(file, metric) for file in found]) for name, found in files.items()}
  langs, groups = [row.lang for row in asked], [row.group for row in asked]
  scored = Scored(scores=scores, langs=langs, groups=groups, tuned=record.tuned(recipes))
  found = record.judge(recipes, results, scored, metric, apart=False)
  of_folds = [read_result(folded.home(folder, n) / "results.json") for n in range(len(done))]
  left = [f"fold {n + 1}" for n in range(len(done), configuration.settings.folds)]
  warnings = [*dict.fromkeys(warning for of in of_folds for warning in of["warnings"])]
  said = {
    "folds": len(of_folds),
    "could_show": report.power_line(langs, groups, record.seeds(configuration, recipes)),
    "warnings": [*warnings, *diagnosis.doubts(results, names, "test")],
    "not_run": record.not_run(configuration, chosen, runs.over),
    "to_come": left,
    "recipes": results,
    "programs": {key: sum(of["programs"][key] for of in of_folds) for key in ("made", "found")},
    "rows": {"test": audit.languages(asked)},
    "labels": audit.labels({"test": asked}),
    "basis": of_folds[0]["basis"],
  }
  record.write(configuration, folder, said, None if left else found)
  return Compared(recipes=recipes, results=results, verdict=found)


def _runs(folder: pathlib.Path, result: Mapping[str, Any]) -> list[pathlib.Path]:
  home = folder / result["recipe"]
  return [home / f"seed_{run['seed']}" for run in result["seeds"]] if result.get("seeds") else [home]
