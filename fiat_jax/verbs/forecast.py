"""What a comparison's runs will take, in minutes and money, by estimate before any of them."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fiat_jax import machine
from fiat_jax.models import lora
from fiat_jax.reasoning.estimate import estimate
from fiat_jax.reasoning.ledger import Price
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Request
from fiat_jax.reasoning.store import Store
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.verbs import asking, exemplar_search, learning_curve, search, seeds
from fiat_jax.workbench import Workbench

TRAINING, READING, WRITING = 0.5, 0.8, 0.3  # of the speed of a matrix product: the demo on 2 cores
COMPILING = 40.0  # seconds of a run that trains; a quarter of that of one that answers alone


@dataclasses.dataclass(frozen=True, kw_only=True)
class Forecast:
  """What a recipe's runs, one a seed, will take by estimate.

  `minutes` None: an endpoint's, which nobody knows; `money` infinite: an endpoint's without PRICE, likewise.
  """

  name: str
  title: str
  runs: int
  minutes: float | None
  money: float
  done: bool = False

  @property
  def order(self) -> tuple[bool, float, float]:
    """Cheap before dear: what costs money last, and what nobody knows behind what is known."""
    return self.money > 0, self.money, math.inf if self.minutes is None else self.minutes


class Run(NamedTuple):
  """One run of a recipe: the rows that it learns from, its changes of settings, whether it answers test, too."""

  rows: int = 0
  changes: Mapping[str, Any] = {}
  test: bool = True


def forecasts(
  bench: Workbench, recipes: Mapping[str, Recipe], folder: pathlib.Path, like: Workbench | None = None
) -> list[Forecast]:
  """Of every recipe, cheapest first; those whose runs are done take nothing.

  `like`: a workbench whose tokenised rows stand for those of this one, which has none.
  """
  found = (_forecast(bench, name, recipe, folder / name, like or bench) for name, recipe in recipes.items())
  return sorted(found, key=_order)


def _order(forecast: Forecast) -> tuple[bool, float, float]:
  return forecast.order


def _forecast(bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path, like: Workbench) -> Forecast:
  several = bench.settings.seeds if recipe.trains else (0,)
  count, money = len(_not_done(seeds.found(folder, several))), 0.0
  if recipe.answer_of_beta:
    minutes: float | None = 0.0
  elif recipe.in_context:
    minutes, money = _of_asking(bench, recipe, folder)
  else:
    left = runs_left(bench, recipe, folder) if recipe.trains else [Run()] * int(count)
    count, minutes = len(left), sum(_of_model(like, recipe, run) for run in left)
  done = minutes == money == 0 if recipe.in_context else not count and not recipe.answer_of_beta
  return Forecast(name=name, title=recipe.title, runs=len(several), minutes=minutes, money=money, done=done)


def runs_left(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> list[Run]:
  """The runs in which the recipe is still to be trained.

  Where settings are still to be tried, all but the trials may be other runs, as long as the longest trial.
  """
  several, whole = bench.settings.seeds, learning_curve.whole(bench)
  ways = search.trials(bench.settings, recipe)
  homes = zip(ways, search.places(folder, ways), strict=True) if len(ways) > 1 else ()
  tried = [Run(rows=whole, changes=way, test=False) for way, home in homes if _not_done([home])]
  longest = max(ways, key=lambda way: (way.get("steps", 0), way.get("epochs", 0.0)))
  found = [
    Run(rows=whole, changes=longest) for _ in (several[1:] if tried else _not_done(seeds.found(folder, several)))
  ]
  for size in learning_curve.sizes(bench):
    places = seeds.found(learning_curve.place_of(folder, size), several)
    found += [Run(rows=size, changes=longest) for _ in (places if tried else _not_done(places))]
  return [*tried, *found, *([Run(changes=longest)] if tried else [])]


def _not_done(homes: Sequence[pathlib.Path]) -> list[pathlib.Path]:
  return [home for home in homes if not (home / "results.json").exists()]


def _of_asking(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> tuple[float | None, float]:
  """Minutes and money for what is not answered yet."""
  plans = exemplar_search.plans(bench.of(recipe), recipe, folder)
  last, left = plans[-1], dict[str, Request]()
  for asked in plans:
    pairs = zip(asked.plan.keys, asked.plan.requests, strict=True)
    left |= {key: request for key, request in pairs if key not in asked.store.kept}
  return of_requests(list(left.values()), last.reasoner, last.store, last.settings)


def of_requests(
  requests: Sequence[Request], reasoner: Reasoner, store: Store, settings: Settings
) -> tuple[float | None, float]:
  """Minutes and money that it takes to ask all of them, as `Forecast` has them."""
  if not requests:
    return 0.0, 0.0
  priced = estimate(iter(requests), reasoner.count, store)
  if reasoner.remote:
    return None, Price.parse(settings.price).of(priced.likely) if settings.price else math.inf
  size = asking.parameters(reasoner)
  speed = machine.products_a_second(settings.dtype)
  reading, writing = 2 * size * priced.likely[0] / READING, 2 * size * priced.likely[1] / WRITING
  return ((reading + writing) / speed + COMPILING / 4) / 60, 0.0


def _of_model(bench: Workbench, recipe: Recipe, run: Run) -> float:
  """Minutes of one run of a recipe in which MODEL or BASE_MODEL reads the tokenised rows."""
  bench = bench.of(recipe)
  settings = dataclasses.replace(bench.settings, **{k: v for k, v in run.changes.items() if k in ("epochs", "steps")})
  size = lora.count(bench.models.of(recipe).family.shapes())
  judged = ("validation", "test") if run.test else ("validation",)
  passes = {split: 1.0 for split in judged if split in bench.rows}
  training = 0.0
  if run.rows:
    shards = [bench.shards.of("train", recipe), *([bench.shards.explained(recipe)] if recipe.distils else [])]
    there = len(shards[0])
    count = min(there, run.rows)
    tokens = sum(int((s.lengths("inputs") + s.lengths("targets")).sum()) for s in shards) * count / there
    size_of_update = min(settings.batch, count)
    steps = settings.steps or max(1, math.ceil(settings.epochs * count / size_of_update))
    training = steps * size_of_update / count * tokens * size * (6 if recipe.adapter == "full" else 4) / TRAINING
    every = settings.validate_every or max(1, -(-steps // 4))
    passes["validation"] += 1 + math.ceil(steps / every)
  answering = sum(times * _of_answers(bench, recipe, split, size) for split, times in passes.items())
  if bench.templates.unaided(recipe) and "test" in passes:
    answering += _of_answers(bench, recipe, "test", size)
  speed = machine.products_a_second(settings.dtype)
  minutes = ((training + answering) / speed + (COMPILING if run.rows else COMPILING / 4)) / 60
  return 2 * minutes if recipe.begins_with else minutes


def _of_answers(bench: Workbench, recipe: Recipe, split: str, size: int) -> float:
  """Operations to answer a split once, divided by how well they use the machine."""
  shard = bench.shards.of(split, recipe)
  read, written = int(shard.lengths("inputs").sum()), int(shard.lengths("targets").sum())
  if bench.settings.labels:
    labels = sum(len(row.labels) for row in bench.rows[split])
    return 2 * size * (read + labels * written / len(shard)) / READING
  return 2 * size * (read / READING + written / WRITING)
