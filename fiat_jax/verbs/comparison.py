"""One comparison in one folder: its recipes run one after another, results and pages are written anew after each."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from fiat_jax import compilations, processes, runtime
from fiat_jax.configuration import Configuration
from fiat_jax.data import audit
from fiat_jax.data.keys import keys_of
from fiat_jax.errors import UserError
from fiat_jax.evaluation import diagnosis, metrics, published, report
from fiat_jax.evaluation.statistics import Scored, resample
from fiat_jax.evaluation.verdict import Candidate, Verdict, decide, score_interval
from fiat_jax.progress import say
from fiat_jax.reasoning import view
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.recipe import Recipe
from fiat_jax.report import page
from fiat_jax.report.results import Result
from fiat_jax.run_folder import occupied, widen
from fiat_jax.verbs import budget as budgeting
from fiat_jax.verbs import choice, learning_curve, prompt_search, recipe_runs
from fiat_jax.verbs.budget import Budget, Runs
from fiat_jax.verbs.choice import Choice
from fiat_jax.verbs.forecast import forecasts
from fiat_jax.verbs.made import note
from fiat_jax.verbs.predictions import predict
from fiat_jax.verbs.tuning import first_stage, optimizer_config
from fiat_jax.verbs.validation import repeats
from fiat_jax.verbs.validation.findings import Findings
from fiat_jax.whole import write_whole
from fiat_jax.workbench import Workbench

FEW = 1500  # rows, below which folds are offered
OFFERED = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compared:
  """Recipes with their results, in their order, and the verdict, where there is one."""

  recipes: Mapping[str, Recipe]
  results: Sequence[dict[str, Any]]
  verdict: Verdict | None


def check(configuration: Configuration) -> None:
  """Refuses settings with which no comparison works, before anything is read."""
  settings = configuration.settings
  settings.answers("compare")
  if settings.chats:
    raise UserError("--objective chat: compare sets answers side by side; use `fiat train`, then `fiat evaluate`")
  metrics.check(settings.metrics, bool(settings.labels), settings.allow_code_execution)
  published.read(settings.published)
  AnswerRule.parse(settings.answer)
  optimizer_config(configuration.own(Recipe()).settings)


def prepare(configuration: Configuration) -> tuple[Workbench, Choice]:
  """Reads rows and models' descriptions, chooses the recipes, and tokenises; nothing is run."""
  settings = configuration.settings
  runtime.start(settings)
  processes.by_first(lambda: view.make_room(settings))
  bench = Workbench(configuration)
  chosen = choice.choose(bench)
  recipes = dict(chosen.recipes)
  if any(recipe.in_context for recipe in recipes.values()):
    processes.check_alone(settings, "a comparison with recipes in context")
  first = [found for recipe in recipes.values() for found in first_stage(bench, recipe).values()]
  bench.prepare([*recipes.values(), *first, *filter(None, map(bench.templates.unaided, recipes.values()))])
  bench.check()
  return bench, chosen


def run(configuration: Configuration) -> Compared | None:
  """Runs what is not done yet; None where only the plan was asked for."""
  bench, chosen = prepare(configuration)
  recipes = dict(chosen.recipes)
  folder, used = pathlib.Path(configuration.settings.model_dir), bench.fingerprints(recipes.values())
  langs, groups = [row.lang for row in bench.rows["test"]], [row.group for row in bench.rows["test"]]
  power = report.power_line(langs, groups)
  leaks, told = _repeats(bench), note(configuration.settings.model)
  done: dict[str, dict[str, Any]] = {}
  scores: dict[str, np.ndarray] = {}
  results: list[dict[str, Any]] = []
  found = None
  whole, bare = configuration.replace(recipes=tuple(recipes)).text(), bench.bare_fingerprints()
  with compilations.counted() as programs, occupied(folder, whole, used, widens=True, bare=bare):
    bench.keep_splits(folder)
    say(power)
    runs = _plan(bench, recipes, folder)
    if configuration.settings.dry_run:
      return None
    processes.by_first(lambda: widen(folder, whole, used))
    _show_example(bench, {name: recipes[name] for name in runs.undone})
    while name := processes.of_first(runs.next()):
      recipe = recipes[name]
      done[name] = {**recipe_runs.run(bench, name, recipe, folder / name), **recipe_runs.about(bench, recipe)}
      scores[name] = recipe_runs.scores(bench, recipe, folder / name)
      runs.end(name)
      results = [done[name] for name in recipes if name in done]
      found = judge(recipes, results, Scored(scores=scores, langs=langs, groups=groups), bench.settings.metrics[0])
      warnings = [*leaks, *filter(None, [told]), *diagnosis.doubts(results, bench.settings.metrics, "test")]
      said = {"could_show": power, "warnings": warnings, "not_run": not_run(configuration, chosen, runs.over)}
      said |= {"planned": [name for name in recipes if name in runs.names], "recipes": results}
      said |= {"programs": dataclasses.asdict(programs)}
      said |= {"rows": {split: audit.languages(rows) for split, rows in bench.rows.items()}}
      write(configuration, folder, said, None if runs.left else found)
  say(f"{programs} of earlier commands")
  return Compared(recipes=recipes, results=results, verdict=found)


def _plan(bench: Workbench, recipes: Mapping[str, Recipe], folder: pathlib.Path) -> Runs:
  """Says what the comparison will take, and returns what the budget allows of it.

  Raises:
    UserError: that is nothing, or money is to have an end and a price is missing.
  """
  budget, found = Budget.parse(bench.settings.budget), forecasts(bench, recipes, folder)
  runs = Runs(found, budget, paid=lambda: budgeting.paid_on(bench.settings.store))
  say(budgeting.table(found, runs.names, budget))
  learning_curve.say_too_large(bench)
  _offer_folds(bench, sum(one.minutes or 0.0 for one in found if one.name in runs.names))
  if not runs.names:
    raise UserError(f"--budget {bench.settings.budget} allows no run: raise it, or name cheaper --recipes")
  return runs


def _offer_folds(bench: Workbench, minutes: float) -> None:
  """Few rows of DATA can all be test rows; what that takes is said."""
  data, rows = bench.settings.data, sum(map(len, bench.rows.values()))
  if data and rows < FEW and set(bench.settings.bare_files()) == {"train", "validation", "test"}:
    say(
      f"{rows} rows are few: --folds {OFFERED} makes a test row of each, not of {len(bench.rows['test'])} alone, and "
      f"takes about {OFFERED * minutes:.0f} minutes"
    )


def not_run(configuration: Configuration, chosen: Choice, over: Collection[str]) -> dict[str, dict[str, str]]:
  """What recipes that were left out need, with their titles, for the report."""
  needs = {**chosen.not_run, **dict.fromkeys(over, "more than --budget")}
  return {name: {"title": configuration.recipe(name).title, "needs": need} for name, need in needs.items()}


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


def _repeats(bench: Workbench) -> list[str]:
  """What `fiat validate` says of rows that stand twice, near duplicates aside, which take long to find."""
  findings = Findings({split: bench.settings.file(split) for split in bench.rows}, bench.rows)
  repeats.warn_of_exact_repeats({split: keys_of(rows) for split, rows in bench.rows.items()}, findings)
  return findings.warnings


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
  of_run = {"not_run": said["not_run"], "folds": said.get("folds", 0)}
  text = report.markdown(said["recipes"], names, found, said["could_show"], told, beside, searched, **of_run)
  write_whole(folder / "report.md", text)
  page.write(folder)


def _show_example(bench: Workbench, recipes: dict[str, Recipe]) -> None:
  """One row worked through before any training: what the tuned model reads, and what it answers untuned."""
  model_recipes = [recipe for recipe in recipes.values() if recipe.reads_rows]
  if not model_recipes:
    return
  recipe = max(model_recipes, key=lambda recipe: recipe.needs_reasoning)
  bench = bench.of(recipe)
  split = "validation" if "validation" in bench.rows else "test"
  row, shard = bench.shards.read(split, recipe)[0], bench.shards.of(split, recipe)
  prediction = predict(bench, split, recipe, bench.models.engine(recipe), limit=1)[0]
  prompt = bench.templates.prompt(recipe, row)
  say(f"\n--- one row of {split}, {row.id} ({row.lang}), as {recipe.title} sees it ---\n{row.x}\n")
  if row.reasoning:
    say(f"reasoning of the big model: {row.reasoning}\n")
  say(f"the exact prompt ({len(shard[0].inputs)} tokens):\n{prompt}")
  say(f"\nuntuned, the model answers: {prediction.text!r}\nthe right answer: {' | '.join(row.targets)}\n---\n")
