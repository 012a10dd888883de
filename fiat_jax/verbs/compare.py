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
from fiat_jax.data import audit
from fiat_jax.data.keys import keys_of
from fiat_jax.errors import UserError
from fiat_jax.evaluation import diagnosis, metrics, report
from fiat_jax.evaluation.evaluate import read_scores
from fiat_jax.evaluation.statistics import Scored, resample
from fiat_jax.evaluation.verdict import Candidate, Verdict, decide, score_interval
from fiat_jax.progress import say
from fiat_jax.reasoning import costs
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.recipe import Recipe
from fiat_jax.report import page
from fiat_jax.run_folder import occupied
from fiat_jax.verbs.evaluate import restore_best
from fiat_jax.verbs.made import note
from fiat_jax.verbs.objectives import Answers
from fiat_jax.verbs.predictions import predict, say_doubts
from fiat_jax.verbs.train import optimizer_config, train_recipe
from fiat_jax.verbs.validation import repeats
from fiat_jax.verbs.validation.findings import Findings
from fiat_jax.whole import write_whole
from fiat_jax.workbench import Workbench

DEFAULT_RECIPES = ("fine_tuning", "fiat", "beta", "base_full_fine_tuning")  # the last where there is a base model
SPLITS = ("train", "validation", "test")
UNAIDED = "without_reasoning"


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
  bench.prepare([*recipes.values(), *filter(None, map(bench.unaided, recipes.values()))])
  bench.check()
  folder, used = pathlib.Path(settings.model_dir), bench.fingerprints(recipes.values())
  langs, groups = [row.lang for row in bench.rows["test"]], [row.group for row in bench.rows["test"]]
  power = report.power_line(langs, groups)
  leaks, told = _repeats(bench), note(settings.model)
  results: list[dict[str, Any]] = []
  scores: dict[str, np.ndarray] = {}
  found = None
  with occupied(folder, configuration.replace(recipes=tuple(recipes)).text(), used, widens=True):
    bench.keep_splits(folder)
    say(power)
    _show_example(bench, recipes)
    for name, recipe in recipes.items():
      results.append({**_run(bench, name, recipe, folder / name), **_about(bench, recipe)})
      scores[name] = _scores(bench, recipe, folder / name)
      found = _judge(recipes, results, Scored(scores=scores, langs=langs, groups=groups), settings.metrics[0])
      decided = found if len(results) == len(recipes) else None
      warnings = [*leaks, *filter(None, [told]), *diagnosis.doubts(results, settings.metrics, "test")]
      said = {"could_show": power, "warnings": warnings}
      _write(bench, folder, {"planned": list(recipes), "recipes": results, **said}, decided)
  print(report.table(results, settings.metrics, "test"))
  print(f"\n{found.words if found else _no_verdict(results)}")
  say_doubts(results, settings.metrics, "test")
  if told:
    print(f"\n{told}")
  tuned = [name for name, recipe in recipes.items() if recipe.trains]
  print(f"\n{folder}/report.html shows it; results.json and report.md hold this table")
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
    result: dict[str, Any] = {"recipe": name, "title": recipe.title, **bench.truncated(recipe)}
    answers = Answers(bench, recipe)
    result |= {split: answers.judge(split, None, folder) for split in SPLITS[1:] if split in bench.rows}
    return result | ({"answer_seconds": answers.seconds} if answers.seconds else {})
  runs = [
    train_recipe(bench, name, recipe, run, seed) | _unaided(bench, recipe, run)
    for seed, run in zip(settings.seeds, _folders(bench, recipe, folder), strict=True)
  ]
  if len(runs) == 1:
    return runs[0]
  means = {key: _mean([run[key] for run in runs]) for key in (*SPLITS[1:], UNAIDED) if all(key in run for run in runs)}
  of_one = {key: value for key, value in runs[0].items() if key != UNAIDED}
  return {**of_one, "seed": None, "seeds": runs, **means}


def _unaided(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> dict[str, Any]:
  """How a model that was tuned with reasoning answers test where the big model is unavailable; kept in its folder."""
  if not (form := bench.unaided(recipe)):
    return {}
  done = folder / UNAIDED / "results.json"
  if not done.exists() and not (folder / "checkpoints" / "best").is_dir():
    return {}  # a run that is done needs its checkpoints for nothing else
  if not done.exists():
    say(f"{recipe.title}: test once more, the reasoning left out")
    found = Answers(bench, form).judge("test", restore_best(bench, recipe, folder), folder / UNAIDED)
    write_whole(done, json.dumps(found, indent=2) + "\n")
  return {UNAIDED: json.loads(done.read_text())}


def _about(bench: Workbench, recipe: Recipe) -> dict[str, Any]:
  """For who reads `results.json`: the recipe's switches, and what the reasoning that it reads cost per 1,000 rows."""
  about = {"switches": {name: value for name, value in dataclasses.asdict(recipe).items() if name != "title"}}
  if not (recipe.needs_reasoning and bench.settings.store):
    return about
  cost = costs.per_1000(pathlib.Path(bench.settings.store), (row.x for row in bench.rows["test"]))
  return about if cost is None else about | {"reasoning_cost": cost}


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


def _repeats(bench: Workbench) -> list[str]:
  """What `fiat validate` says of rows that stand twice, near duplicates aside, which take long to find."""
  findings = Findings({split: bench.settings.file(split) for split in bench.rows}, bench.rows)
  repeats.warn_of_exact_repeats({split: keys_of(rows) for split, rows in bench.rows.items()}, findings)
  return findings.warnings


def _write(bench: Workbench, folder: pathlib.Path, said: Mapping[str, Any], found: Verdict | None) -> None:
  """`results.json`, and the two pages that show it: all that they say of the run stands there or in `predictions/`."""
  names = bench.settings.metrics
  rows = {split: audit.languages(rows) for split, rows in bench.rows.items()}
  record = {"metrics": names, **said, "verdict": dataclasses.asdict(found) if found else None, "rows": rows}
  write_whole(folder / "results.json", json.dumps(record, indent=2) + "\n")
  told = note(bench.settings.model)
  write_whole(folder / "report.md", report.markdown(said["recipes"], names, found, said["could_show"], told))
  page.write(folder)


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
