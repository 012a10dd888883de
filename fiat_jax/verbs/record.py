"""What a comparison has found so far: judged anew after each recipe, kept in `results.json`, and shown by two pages."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from fiat_jax import processes
from fiat_jax.compilations import Compilations
from fiat_jax.configuration import Configuration
from fiat_jax.data import audit
from fiat_jax.evaluation import curve, diagnosis, published, report
from fiat_jax.evaluation.statistics import Scored, resample
from fiat_jax.evaluation.verdict import Candidate, Verdict, decide, score_interval
from fiat_jax.recipe import Recipe
from fiat_jax.report import page
from fiat_jax.report.results import Result
from fiat_jax.verbs import learning_curve, prompt_search, recipe_runs
from fiat_jax.verbs.budget import Runs
from fiat_jax.verbs.choice import Choice
from fiat_jax.verbs.made import note
from fiat_jax.whole import read_result, write_whole
from fiat_jax.workbench import Workbench


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
  """Recipes with their results, in their order, and the verdict, where there is one."""

  recipes: Mapping[str, Recipe]
  results: Sequence[dict[str, Any]]
  verdict: Verdict | None


class Record:
  """Gathers what the recipes of a comparison come to.

  Args:
    power: what was said of the test rows before the work.
    warnings: what was said of all rows.
  """

  def __init__(self, bench: Workbench, chosen: Choice, folder: pathlib.Path, power: str, warnings: Sequence[str]):
    self._bench, self._chosen, self._folder, self._power = bench, chosen, folder, power
    self._warnings = [*warnings, *filter(None, [note(bench.settings.model)])]
    self._results: dict[str, dict[str, Any]] = {}
    self._scores: dict[str, np.ndarray] = {}
    self._by_size: dict[int, dict[str, np.ndarray]] = {}
    self._verdict: Verdict | None = None
    found = folder / "results.json"
    self._programs = read_result(found).get("programs", {}) if found.exists() else {}

  @property
  def results(self) -> list[dict[str, Any]]:
    """Of the recipes that are done, in the order in which they were chosen."""
    return [self._results[name] for name in self._chosen.recipes if name in self._results]

  @property
  def compared(self) -> Compared:
    return Compared(recipes=self._chosen.recipes, results=self.results, verdict=self._verdict)

  def add(self, name: str, runs: Runs, programs: Compilations) -> None:
    """Runs a recipe, as far as it is not done, and takes in what it comes to; what there is after a seed is written."""
    bench, recipe, home = self._bench, self._chosen.recipes[name], self._folder / name

    def take(result: dict[str, Any]) -> None:
      self._results[name] = {**result, **recipe_runs.about(bench, recipe)}
      self._scores[name] = recipe_runs.scores(bench, recipe, home, len(result.get("seeds", [result])))

    def ran(result: dict[str, Any]) -> None:
      take(result)
      self.write(runs, programs)

    take(recipe_runs.run(bench, name, recipe, home, ran))
    for size, scores in recipe_runs.scores_by_size(bench, recipe, home).items():
      self._by_size.setdefault(size, {})[name] = scores

  def write(self, runs: Runs, programs: Compilations) -> None:
    """Judges what is there, and writes results and pages; the verdict where nothing is left to run.

    Args:
      programs: that this command has made.
    """
    bench, metrics = self._bench, self._bench.settings.metrics
    langs, groups = [row.lang for row in bench.rows["test"]], [row.group for row in bench.rows["test"]]
    scored = Scored(scores=self._scores, langs=langs, groups=groups, tuned=tuned(self._chosen.recipes))
    self._verdict = judge(self._chosen.recipes, self.results, scored, metrics[0])
    said = {
      "could_show": self._power,
      "warnings": [*self._warnings, *diagnosis.doubts(self.results, metrics, "test")],
      "not_run": not_run(bench.configuration, self._chosen, runs.over),
      "to_come": [self._left(name) for name in runs.left],
      "recipes": self.results,
      "basis": basis(bench, self._chosen.recipes),
      "sizes": curve.between(self._by_size, langs, groups),
      "programs": {name: self._programs.get(name, 0) + n for name, n in dataclasses.asdict(programs).items()},
      "rows": {split: audit.languages(rows) for split, rows in bench.rows.items()},
      "labels": audit.labels(bench.rows),
    }
    write(bench.configuration, self._folder, said, None if runs.left else self._verdict)

  def _left(self, name: str) -> str:
    title, result = self._chosen.recipes[name].title, self._results.get(name)
    count = len(self._bench.settings.seeds)
    return f"{title} ({len(result.get('seeds', [result]))} of {count} runs done)" if result else title


def tuned(recipes: Mapping[str, Recipe]) -> list[str]:
  """Those whose score hangs on a seed."""
  return [name for name, recipe in recipes.items() if recipe.trains]


def seeds(configuration: Configuration, recipes: Mapping[str, Recipe]) -> int:
  """Of each tuned recipe; 0 where nothing is tuned."""
  return len(configuration.settings.seeds) if tuned(recipes) else 0


def basis(bench: Workbench, recipes: Mapping[str, Recipe]) -> dict[str, Any]:
  """What recipes are tuned from: their models, the number of training rows, the seeds; whether settings are searched.

  Where a recipe reads reasoning from a column that has another name than it is looked for under, that is told, too.
  """
  settings, used = bench.settings, {recipe.model_setting for recipe in recipes.values() if recipe.runs_model}
  models = [getattr(settings, name) for name in ("model", "base_model") if name in used]
  rows = learning_curve.whole(bench) if "train" in bench.rows else 0
  searched = bool(settings.try_learning_rates or settings.try_epochs)
  found = {"models": models, "train_rows": rows, "seeds": list(settings.seeds), "searched": searched}
  read = any(recipe.needs_reasoning for recipe in recipes.values()) and not settings.store
  return found | ({"reasoning": settings.reasoning} if read and settings.reasoning != "reasoning" else {})


def not_run(configuration: Configuration, chosen: Choice, over: Collection[str]) -> dict[str, dict[str, str]]:
  """What recipes that were left out need, with their titles and the command that runs them, for the report."""
  command = re.sub(r" --budget[ =]\S+", "", configuration.command)
  more = {"needs": "more than --budget", "command": f"{command} --budget MINUTES"}
  left = {**chosen.not_run, **dict.fromkeys(over, more)}
  return {name: {"title": configuration.recipe(name).title, **of} for name, of in left.items()}


def judge(
  recipes: Mapping[str, Recipe], results: Sequence[dict[str, Any]], scored: Scored, metric: str, *, apart: bool = True
) -> Verdict | None:
  """Adds each result's interval; the verdict, where there is something to pick among and validation to pick on.

  `apart`: as `verdict.decide` wants it.
  """
  drawn = resample(scored)
  for result in results:
    result["interval"] = score_interval(drawn, result["recipe"])
  if len(results) < 2 or not all("validation" in result for result in results):
    return None
  candidates = [
    Candidate(
      name=of.name,
      recipe=recipes[of.name],
      validation=of.record["validation"]["overall"][metric],
      money=of.money,
      seconds=of.seconds,
      beta_seconds=of.beta_seconds,
    )
    for of in (Result(record=r, answers=()) for r in results)
  ]
  return decide(candidates, drawn, metric, apart=apart)


def write(configuration: Configuration, folder: pathlib.Path, said: Mapping[str, Any], found: Verdict | None) -> None:
  """`results.json`, and the two pages that show it: all that they say of the run stands there or in `predictions/`."""
  names = configuration.settings.metrics
  record = {"metrics": names, **said, "verdict": dataclasses.asdict(found) if found else None}
  figures = published.read(configuration.settings.published)
  record |= {"published": list(map(dataclasses.asdict, figures))} if figures else {}
  searched = prompt_search.trail(folder)
  record |= {"prompt_search": searched} if searched else {}
  write_whole(folder / "results.json", json.dumps(record, indent=2) + "\n")
  told = note(configuration.settings.model)
  beside = published.beside(figures, said["recipes"], "test")
  of_run = {"not_run": said["not_run"], "folds": said.get("folds", 0), "basis": said["basis"]}
  of_run |= {"to_come": said["to_come"], "warnings": [warning for warning in said["warnings"] if warning != told]}
  text = report.markdown(said["recipes"], names, found, said["could_show"], told, beside, searched, **of_run)
  write_whole(folder / "report.md", text)
  processes.by_first(lambda: page.write(folder))  # who alone has written what it reads, and waits for none
