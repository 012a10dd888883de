"""`fiat compare`: several recipes on the same rows, one table."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiat_jax import runtime
from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics, report
from fiat_jax.evaluation.evaluate import read_scores, summarise, write_predictions
from fiat_jax.evaluation.statistics import Scored, resample
from fiat_jax.evaluation.verdict import Candidate, Verdict, decide, score_interval
from fiat_jax.progress import say
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.recipe import Recipe
from fiat_jax.run_folder import occupied
from fiat_jax.settings import Settings
from fiat_jax.verbs.made import note
from fiat_jax.verbs.predictions import predict, say_doubts
from fiat_jax.verbs.train import optimizer_config, train_recipe
from fiat_jax.whole import write_whole
from fiat_jax.workbench import Workbench

DEFAULT_RECIPES = ("fine_tuning", "fiat", "beta", "base_full_fine_tuning")  # the last where there is a base model
SPLITS = ("train", "validation", "test")


def main(configuration: Configuration) -> None:
  settings = configuration.settings
  settings.answers("compare")
  if settings.chats:
    raise UserError("--objective chat: compare sets answers side by side; use `fiat train`, then `fiat evaluate`")
  metrics.check(settings.metrics, bool(settings.labels), settings.allow_code_execution)
  AnswerRule.parse(settings.answer)
  optimizer_config(settings)
  runtime.start()
  bench = Workbench(configuration)
  recipes = _recipes(bench)
  bench.prepare(list(recipes.values()))
  bench.check()
  folder, used = pathlib.Path(settings.model_dir), bench.fingerprints(recipes.values())
  langs, groups = [row.lang for row in bench.rows["test"]], [row.group for row in bench.rows["test"]]
  power = report.power_line(langs, groups)
  results: list[dict[str, Any]] = []
  scores: dict[str, np.ndarray] = {}
  found = None
  with occupied(folder, configuration.replace(recipes=tuple(recipes)).text(), used, widens=True):
    bench.keep_splits(folder)
    say(power)
    _show_example(bench, recipes)
    for name, recipe in recipes.items():
      results.append(_run(bench, name, recipe, folder / name))
      scores[name] = _scores(bench, recipe, folder / name)
      found = _judge(recipes, results, Scored(scores=scores, langs=langs, groups=groups), settings.metrics[0])
      _write(folder, results, settings, found if len(results) == len(recipes) else None, power)
  print(report.table(results, settings.metrics, "test"))
  print(f"\n{found.words if found else _no_verdict(results)}")
  say_doubts(results, settings.metrics, "test")
  if told := note(settings.model):
    print(f"\n{told}")
  tuned = [name for name, recipe in recipes.items() if recipe.trains]
  print(f"\n{folder}/results.json and report.md hold this table")
  for name in tuned:
    print(f"{folder}/{name}: adapter/ (PEFT's format), predictions/, metrics.jsonl, config.gin")
  if tuned:
    asked, best = settings.test or "new_rows.csv", found.recipe if found and found.recipe in tuned else tuned[-1]
    print(f"\nNext: fiat predict --model_dir {folder}/{best} --test {asked} --output answers.jsonl")


def _recipes(bench: Workbench) -> dict[str, Recipe]:
  """The recipes asked for, or those that the rows and the models at hand allow."""
  recipes = {name: bench.configuration.recipe(name) for name in bench.settings.recipes or DEFAULT_RECIPES}
  if not (bench.settings.recipes or bench.settings.base_model):
    recipes = {name: recipe for name, recipe in recipes.items() if recipe.instruction_tuned}
  bare = sum(not row.reasoning for rows in bench.rows.values() for row in rows)
  allowed = (1 - bench.settings.completeness) * sum(map(len, bench.rows.values())) if bench.settings.store else 0
  if bare > allowed and not bench.settings.recipes:
    left_out = " and ".join(recipe.title for recipe in recipes.values() if recipe.needs_reasoning)
    say(
      f"{bare} of {sum(map(len, bench.rows.values()))} rows have no reasoning in the column "
      f"{bench.settings.reasoning!r}: {left_out} are left out, which read it"
    )
    recipes = {name: recipe for name, recipe in recipes.items() if not recipe.needs_reasoning}
  needed = SPLITS if any(recipe.trains for recipe in recipes.values()) else SPLITS[-1:]
  for split in needed:
    if split not in bench.rows:
      raise UserError(f"no --{split} rows: give --{split} FILE, or --data FILE to be split")
  return recipes


def _run(bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path) -> dict[str, Any]:
  """One recipe's result; over several seeds, the mean of the scores, with each seed's own run beside."""
  settings = bench.settings
  if not recipe.trains:
    engine = None if recipe.answer_of_beta else bench.engine(recipe)
    result: dict[str, Any] = {"recipe": name, "title": recipe.title, **bench.truncated(recipe)}
    for split in [split for split in SPLITS[1:] if split in bench.rows]:
      predictions = predict(bench, split, recipe, engine)
      write_predictions(folder / "predictions" / f"{split}.jsonl", predictions, settings.metrics)
      result[split] = summarise(predictions, settings.metrics)
    return result
  if len(settings.seeds) == 1:
    return train_recipe(bench, name, recipe, folder, settings.seeds[0])
  runs = [
    train_recipe(bench, name, recipe, run, seed)
    for seed, run in zip(settings.seeds, _folders(bench, recipe, folder), strict=True)
  ]
  means = {split: _mean([run[split] for run in runs]) for split in SPLITS[1:]}
  return {**runs[0], "seed": None, "seeds": runs, **means}


def _folders(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> list[pathlib.Path]:
  """Where the recipe's runs are: its folder, or one a seed."""
  seeds = bench.settings.seeds
  return [folder / f"seed_{seed}" for seed in seeds] if recipe.trains and len(seeds) > 1 else [folder]


def _scores(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> np.ndarray:
  """The first metric of every test row, [seeds, N]."""
  files = [run / "predictions" / "test.jsonl" for run in _folders(bench, recipe, folder)]
  return np.array([read_scores(file, bench.settings.metrics[0]) for file in files])


def _mean(values: list[Any]) -> Any:
  """The mean of summaries, leaf by leaf."""
  if isinstance(values[0], dict):
    return {key: _mean([value[key] for value in values]) for key in values[0]}
  return values[0] if len(set(values)) == 1 else statistics.fmean(values)


def _judge(
  recipes: Mapping[str, Recipe], results: Sequence[dict[str, Any]], scored: Scored, metric: str
) -> Verdict | None:
  """Adds each result's interval; the verdict, where there is something to pick among and validation to pick on."""
  drawn = resample(scored)
  for result in results:
    result["interval"] = score_interval(drawn, result["recipe"])
  if len(results) < 2 or not all("validation" in result for result in results):
    return None
  candidates = [
    Candidate(name=r["recipe"], recipe=recipes[r["recipe"]], validation=r["validation"]["overall"][metric])
    for r in results
  ]
  return decide(candidates, drawn, metric)


def _no_verdict(results: Sequence[Mapping[str, Any]]) -> str:
  if len(results) < 2:
    return "No verdict: there is one recipe, and nothing to compare it with."
  return "No verdict: the recipe is picked on validation rows. Give --validation FILE."


def _write(
  folder: pathlib.Path, results: list[dict[str, Any]], settings: Settings, found: Verdict | None, power: str
) -> None:
  record = {"recipes": results, "verdict": dataclasses.asdict(found) if found else None}
  write_whole(folder / "results.json", json.dumps(record, indent=2) + "\n")
  page = report.markdown(results, settings.metrics, found, power, note(settings.model))
  write_whole(folder / "report.md", page)


def _show_example(bench: Workbench, recipes: dict[str, Recipe]) -> None:
  """One row worked through before any training: what the tuned model reads, and what it answers untuned."""
  model_recipes = [recipe for recipe in recipes.values() if not recipe.answer_of_beta]
  if not model_recipes:
    return
  recipe = max(model_recipes, key=lambda recipe: recipe.needs_reasoning)
  split = "validation" if "validation" in bench.rows else "test"
  row, shard = bench.rows[split][0], bench.shard(split, recipe)
  prediction = predict(bench, split, recipe, bench.engine(recipe), limit=1)[0]
  prompt = bench.prompt(split, recipe, 0)
  say(f"\n--- one row of {split}, {row.id} ({row.lang}), as {recipe.title} sees it ---\n{row.x}\n")
  if row.reasoning:
    say(f"reasoning of the big model: {row.reasoning}\n")
  say(f"the exact prompt ({len(shard[0].inputs)} tokens):\n{prompt}")
  say(f"\nuntuned, the model answers: {prediction.text!r}\nthe right answer: {' | '.join(row.targets)}\n---\n")
