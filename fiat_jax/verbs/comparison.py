"""One comparison in one folder: its recipes run one after another, results and pages are written anew after each."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping

from fiat_jax import compilations, launcher, processes, runtime
from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError, all_of
from fiat_jax.evaluation import metrics, published, report
from fiat_jax.models.pretrained import Weights
from fiat_jax.progress import say
from fiat_jax.reasoning import view
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.recipe import Recipe
from fiat_jax.run_folder import occupied, widen
from fiat_jax.verbs import budget as budgeting
from fiat_jax.verbs import choice, learning_curve, record
from fiat_jax.verbs.budget import Budget, Runs
from fiat_jax.verbs.choice import Choice
from fiat_jax.verbs.forecast import forecasts
from fiat_jax.verbs.predictions import predict
from fiat_jax.verbs.record import Compared, Record
from fiat_jax.verbs.tuning import first_stage, optimizer_config
from fiat_jax.verbs.validation import repeats
from fiat_jax.workbench import Workbench

FEW = 1500  # rows, below which folds are offered
OFFERED = 5


def check(configuration: Configuration) -> None:
  """Refuses settings with which no comparison works, all at once, before anything is read."""
  settings = configuration.settings
  settings.answers("compare")
  if settings.chats:
    raise UserError("--objective chat: compare sets answers side by side; use `fiat train`, then `fiat evaluate`")
  all_of(
    lambda: metrics.check(settings.metrics, bool(settings.labels), settings.allow_code_execution),
    lambda: published.read(settings.published),
    lambda: AnswerRule.parse(settings.answer),
    lambda: optimizer_config(configuration.own(Recipe()).settings),
    lambda: Budget.parse(settings.budget),
  )


def prepare(configuration: Configuration, weights: list[Weights] | None = None) -> tuple[Workbench, Choice]:
  """Reads rows and models' descriptions, chooses the recipes, and tokenises; nothing is run.

  `weights`: as `Workbench` wants them.
  """
  settings = configuration.settings
  runtime.start(settings)
  processes.by_first(lambda: view.make_room(settings))
  bench = Workbench(configuration, weights=weights)
  chosen = choice.choose(bench)
  recipes = dict(chosen.recipes)
  if any(recipe.in_context for recipe in recipes.values()):
    launcher.check_alone(settings, "a comparison with recipes in context")
  first = [found for recipe in recipes.values() for found in first_stage(bench, recipe).values()]
  bench.prepare([*recipes.values(), *first, *filter(None, map(bench.templates.unaided, recipes.values()))])
  bench.check()
  return bench, chosen


def run(configuration: Configuration, weights: list[Weights] | None = None) -> Compared | None:
  """Runs what is not done yet; None where only the plan was asked for. `weights`: as `Workbench` wants them."""
  bench, chosen = prepare(configuration, weights)
  recipes = dict(chosen.recipes)
  folder, used = pathlib.Path(configuration.settings.model_dir), bench.fingerprints(recipes.values())
  test, seeds = bench.rows["test"], record.seeds(configuration, recipes)
  power = report.power_line([row.lang for row in test], [row.group for row in test], seeds)
  whole, bare = configuration.replace(recipes=tuple(recipes)).text(), bench.bare_fingerprints()
  with compilations.counted() as programs, occupied(folder, whole, used, widens=True, bare=bare):
    bench.keep_splits(folder)
    say(power)
    runs = _plan(bench, recipes, folder)
    if configuration.settings.dry_run:
      return None
    processes.by_first(lambda: widen(folder, whole, used))
    warnings = repeats.of_bench(bench)
    for warning in warnings:
      say(f"warning: {warning}")
    found = Record(bench, chosen, folder, power, warnings)
    _show_example(bench, {name: recipes[name] for name in runs.undone})
    while name := processes.of_first(runs.next()):
      found.add(name, runs, programs)
      runs.end(name)
      found.write(runs, programs)
  say(f"{programs} of earlier commands")
  return found.compared


def _plan(bench: Workbench, recipes: Mapping[str, Recipe], folder: pathlib.Path) -> Runs:
  """Says what the comparison will take, and returns what the budget allows of it.

  Raises:
    UserError: that is nothing, or money is to have an end and a price is missing.
  """
  budget, found = Budget.parse(bench.settings.budget), forecasts(bench, recipes, folder)
  runs = Runs(found, budget, paid=lambda: budgeting.paid_on(bench.settings.store))
  say(budgeting.table(found, runs.names, budget))
  learning_curve.say_too_large(bench)
  _offer_folds(bench, {name: recipes[name] for name in runs.names}, folder)
  if not runs.names:
    raise UserError(f"--budget {bench.settings.budget} allows no run: raise it, or name cheaper --recipes")
  return runs


def _offer_folds(bench: Workbench, recipes: Mapping[str, Recipe], folder: pathlib.Path) -> None:
  """Few rows can all be test rows; what that takes is said."""
  rows = sum(map(len, bench.rows.values()))
  if rows >= FEW or set(bench.settings.bare_files()) != {"train", "validation", "test"}:
    return
  anew = forecasts(bench, recipes, folder / "fold_0")  # nothing of a fold is done
  minutes, money = OFFERED * sum(one.minutes or 0.0 for one in anew), OFFERED * sum(one.money for one in anew)
  paid = " and what an endpoint without --price takes" if math.isinf(money) else f" and {money:.2f} of money"
  of = "" if bench.settings.data else ", with all of them in one file, --data FILE,"
  say(
    f"{rows} rows are few: --folds {OFFERED}{of} makes a test row of each, not of {len(bench.rows['test'])} alone, and "
    f"takes about {minutes:.0f} minutes{paid if money else ''}"
  )


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
