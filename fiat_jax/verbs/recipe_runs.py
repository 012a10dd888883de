"""One recipe's runs in a comparison, a run a seed: what results say of them, and the scores of the test rows."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fiat_jax import processes
from fiat_jax.evaluation import curve
from fiat_jax.evaluation.evaluate import read_scores
from fiat_jax.progress import say
from fiat_jax.reasoning import costs, durations, view
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import asking, exemplar_search, learning_curve, search, seeds
from fiat_jax.verbs.best import restore_best
from fiat_jax.verbs.choice import SPLITS
from fiat_jax.verbs.objectives import Answers
from fiat_jax.verbs.tuning import first_stage, train_recipe
from fiat_jax.whole import read_result, write_whole
from fiat_jax.workbench import Workbench

UNAIDED = "without_reasoning"


def run(
  bench: Workbench,
  name: str,
  recipe: Recipe,
  folder: pathlib.Path,
  ran: Callable[[dict[str, Any]], None] = lambda _: None,
) -> dict[str, Any]:
  """One recipe's result; over several seeds, the mean of the scores, with each seed's own run beside.

  Args:
    ran: gets what there is after each run of a seed that another run comes after.
  """
  ways = search.trials(bench.settings, recipe)
  bench = bench.of(recipe)
  settings = bench.settings
  if recipe.in_context:
    shown = exemplar_search.best(bench, recipe, folder)
    return asking.judge(shown.bench, name, recipe, folder, shown.tried)
  if not recipe.trains:
    return _untuned(bench, name, recipe, folder)
  for first, begun in first_stage(bench, recipe).items():
    run(bench, first, begun, folder.parent / first)
  seeds.make_room(folder, settings.seeds)
  firsts = folders(bench, recipe, folder.parent / recipe.begins_with)
  found = search.best(bench, name, recipe, folder, firsts[0], ways)
  bench, recipe = found.bench, found.recipe
  runs, more = list[dict[str, Any]](), {"tried": found.tried} if found.tried else {}
  for seed, home, first in zip(settings.seeds, folders(bench, recipe, folder), firsts, strict=True):
    known = processes.by_first((home / "results.json").exists)
    runs.append(train_recipe(bench, name, recipe, home, seed, first) | _unaided(bench, recipe, home))
    if not known and (len(runs) < len(settings.seeds) or learning_curve.sizes(bench)):
      ran(over_seeds(runs, len(settings.seeds)) | more)
  result = over_seeds(runs) | more
  return result | _learning_curve(bench, name, recipe, folder, result)


def _untuned(bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path) -> dict[str, Any]:
  """The model as it came, whose answers are kept in its folder, or the big model's own answers, which need no work."""
  done = folder / "results.json"
  if processes.by_first(done.exists):
    return read_result(done)
  result: dict[str, Any] = {"recipe": name, "title": recipe.title, **bench.shards.truncated(recipe)}
  answers = Answers(bench, recipe)
  result |= {split: answers.judge(split, None, folder) for split in SPLITS[1:] if split in bench.rows}
  result |= {"answer_seconds": answers.seconds} if answers.seconds else {}
  result |= {"latency": answers.latency} if answers.latency else {}
  if recipe.runs_model:
    write_whole(done, json.dumps(result, indent=2) + "\n")
    processes.wait()
  return result


def _learning_curve(
  bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path, result: dict[str, Any]
) -> dict[str, Any]:
  """The recipe on fewer training rows too, where that is asked for."""
  if not (sizes := learning_curve.sizes(bench)):
    return {}
  metric, rows, whole = bench.settings.metrics[0], bench.rows["test"], learning_curve.whole(bench)
  found = {size: over_seeds(learning_curve.runs(bench, name, recipe, folder, size)) for size in sizes}
  validation = {size: of["validation"]["overall"][metric] for size, of in {**found, whole: result}.items()}
  langs, groups = [row.lang for row in rows], [row.group for row in rows]
  return {"sizes": curve.judge(scores_by_size(bench, recipe, folder), validation, langs, groups)}


def over_seeds(runs: list[dict[str, Any]], of: int = 1) -> dict[str, Any]:
  """The mean of the scores, with each seed's own run beside; where there are to be but one `of` them, its run."""
  if max(len(runs), of) == 1:
    return runs[0]
  means = {key: _mean([run[key] for run in runs]) for key in (*SPLITS[1:], UNAIDED) if all(key in run for run in runs)}
  of_one = {key: value for key, value in runs[0].items() if key != UNAIDED}
  return {**of_one, "seed": None, "seeds": runs, **means}


def _unaided(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> dict[str, Any]:
  """How a model that was tuned with reasoning answers test where the big model is unavailable; kept in its folder."""
  if not (form := bench.templates.unaided(recipe)):
    return {}
  done = folder / UNAIDED / "results.json"
  there = processes.by_first(done.exists)
  if not there and not processes.by_first((folder / "checkpoints" / "best").is_dir):
    return {}  # a run that is done needs its checkpoints for nothing else
  if not there:
    say(f"{recipe.title}: test once more, the reasoning left out")
    found = Answers(bench, form).judge("test", restore_best(bench, recipe, folder), folder / UNAIDED)
    write_whole(done, json.dumps(found, indent=2) + "\n")
    processes.wait()
  return {UNAIDED: read_result(done)}


def about(bench: Workbench, recipe: Recipe) -> dict[str, Any]:
  """For who reads `results.json`: its switches, lengths in tokens, what the reasoning that it reads took per 1,000."""
  found: dict[str, Any] = {"switches": dataclasses.asdict(recipe)}
  del found["switches"]["title"]
  if recipe.reads_rows:
    found["tokens"] = bench.of(recipe).shards.lengths(recipe)
  if not (recipe.needs_reasoning and bench.settings.store):
    return found
  asked, inputs = view.keys(view.find(bench.settings)), [row.x for row in bench.rows["test"]]
  cost = costs.per_1000(pathlib.Path(bench.settings.store), inputs, asked)
  found |= durations.of_inputs(pathlib.Path(bench.settings.store), inputs, asked)
  return found if cost is None else found | {"reasoning_cost": cost}


def folders(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> list[pathlib.Path]:
  """Where the recipe's runs are: its folder, or one a seed."""
  return seeds.homes(folder, bench.settings.seeds) if recipe.trains else [folder]


def scores(bench: Workbench, recipe: Recipe, folder: pathlib.Path, count: int | None = None) -> np.ndarray:
  """The first metric of every test row, [seeds, N]; of the first `count` seeds where not all are done."""
  return _of_rows(folders(bench, recipe, folder)[:count], bench.settings.metrics[0])


def scores_by_size(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> dict[int, np.ndarray]:
  """The same by the number of training rows, all among them; empty where fewer were not asked for."""
  if not recipe.trains or not (sizes := learning_curve.sizes(bench)):
    return {}
  metric, seeds = bench.settings.metrics[0], bench.settings.seeds
  found = {size: _of_rows(learning_curve.home(folder, size, seeds), metric) for size in sizes}
  return {**found, learning_curve.whole(bench): scores(bench, recipe, folder)}


def _of_rows(homes: Sequence[pathlib.Path], metric: str) -> np.ndarray:
  processes.wait()  # until the first has written them
  return np.array([read_scores(home / "predictions" / "test.jsonl", metric) for home in homes])


def _mean(values: list[Any]) -> Any:
  """The mean of summaries, leaf by leaf."""
  if isinstance(values[0], dict):
    return {key: _mean([value[key] for value in values]) for key in values[0]}
  return values[0] if len(set(values)) == 1 else statistics.fmean(values)
