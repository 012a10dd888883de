"""`fiat evaluate`: scores of a run's best checkpoint, or of a model that nothing was tuned on."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
from typing import Any, NamedTuple

from fiat_jax import compilations, run_folder, runtime
from fiat_jax.configuration import Configuration
from fiat_jax.data import sources
from fiat_jax.data.rows import digest, locate
from fiat_jax.data.tokenise import Tokenising
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics, published, report
from fiat_jax.models.pretrained import Weights
from fiat_jax.progress import say
from fiat_jax.reasoning import reasoner
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.verbs.best import restore_best
from fiat_jax.verbs.objectives import Objective, objective_of
from fiat_jax.verbs.train import one_recipe
from fiat_jax.whole import refuse_unwritable, write_whole
from fiat_jax.workbench import Workbench, columns


def main(configuration: Configuration) -> None:
  suite, again = configuration.settings.suite, configuration.again
  if not suite or again is None:
    evaluate(configuration)
    return
  place = configuration.settings.output or f"{configuration.settings.model_dir}/suite"
  tasks = {task: again([f"gin/tasks/{task}.gin"]).replace(suite=(), output=f"{place}/{task}") for task in suite}
  lacking = {task: reason for task, configured in tasks.items() if (reason := _lacks(configured.settings))}
  for task, reason in lacking.items():
    say(f"{task} is left out: {reason}")
  if len(lacking) == len(tasks):
    raise UserError(f"nothing is left of --suite {','.join(suite)} to evaluate")
  asked = {task: configured for task, configured in tasks.items() if task not in lacking}
  for configured in asked.values():  # before the first is worked on
    for path in configured.settings.files().values():
      sources.fetch(locate(path)[0])
  weights: list[Weights] = []
  opened = {task: _opened(configured, weights) for task, configured in asked.items()}
  tokenising = Tokenising([spec for each in opened.values() for spec in each.bench.describe([each.recipe])])
  summaries = []
  for task, each in opened.items():
    print(f"{task}\n")
    each.bench.shards.made_by(tokenising)
    summaries.append((task, each.bench.settings.metrics, _judged(each), each.figures))
    print()
  print(report.suite(summaries))


def _lacks(settings: Settings) -> str:
  return metrics.lacks(settings.metrics, code=settings.allow_code_execution, judge=bool(settings.judge))


def evaluate(configuration: Configuration) -> dict[str, Any]:
  """Evaluates on one set of rows, prints its table, and returns what `evaluate.summarise` gives."""
  opened = _opened(configuration)
  opened.bench.prepare([opened.recipe])
  return _judged(opened)


class _Opened(NamedTuple):
  """What is evaluated, checked; nothing is tokenised yet."""

  name: str
  recipe: Recipe
  split: str
  bench: Workbench
  objective: Objective
  place: pathlib.Path
  figures: list[published.Figure]


def _opened(configuration: Configuration, weights: list[Weights] | None = None) -> _Opened:
  """`weights` are those in memory, which the next task of a suite finds there."""
  settings = configuration.settings
  name = one_recipe(settings)
  recipe = configuration.recipe(name)
  split = next((split for split in ("test", "validation") if split in settings.files()), None)
  if split is None:
    raise UserError("no rows to evaluate on: give --test FILE")
  place = _place(settings, split)
  refuse_unwritable(place, folder=True)
  configuration = columns.as_trained(configuration, split).only(split)
  runtime.start(settings)
  metrics.check(settings.metrics, bool(settings.labels), settings.allow_code_execution, bool(settings.judge))
  if set(metrics.JUDGED) & set(settings.metrics):
    reasoner.require_price(dataclasses.replace(settings, beta=settings.judge))
  figures = published.read(settings.published)
  bench = Workbench(configuration, labelled=not settings.corrupts, weights=weights)
  bench.check_splits(pathlib.Path(settings.model_dir))
  return _Opened(name, recipe, split, bench, objective_of(bench, recipe), place, figures)


def _place(settings: Settings, split: str) -> pathlib.Path:
  """OUTPUT, or the run folder; below that, where the rows are not those that the run itself answered."""
  if settings.output:
    return pathlib.Path(settings.output)
  folder, file = pathlib.Path(settings.model_dir), settings.files()[split]
  known, found = run_folder.recorded(folder), digest(file)
  if not known or known.get(split) == found:
    return folder
  name = re.sub(r"[^\w.-]+", "_", locate(file)[0].stem)
  return folder / "evaluations" / f"{name}-{found[:8]}"


def _judged(opened: _Opened) -> dict[str, Any]:
  name, recipe, split, bench, objective, place, figures = opened
  settings = bench.settings
  compilations.make_room()
  folder = pathlib.Path(settings.model_dir)
  trained = restore_best(bench, recipe, folder)
  result = {"recipe": name, "title": recipe.title, split: objective.judge(split, trained, place)}
  result |= bench.shards.truncated(recipe)
  write_whole(place / f"evaluation_{split}.json", json.dumps(result, indent=2) + "\n")
  objective.show([result], split)
  if not settings.by_loss:
    print(f"\n{report.errors(result[split])}")
    beside = published.beside(figures, [result], split)
    print(f"\n{report.published(beside)}" if beside else "")
  print(f"\n{place}/{objective.written.format(split=split)}")
  return result[split]
