"""Before a comparison's work: its runs with the minutes and the money that they will take, cheapest first, and which of
them a budget allows."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import statistics
import time
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence

from fiat_jax import machine
from fiat_jax.errors import UserError
from fiat_jax.evaluation.report import lay_out
from fiat_jax.models import lora
from fiat_jax.progress import say
from fiat_jax.reasoning.estimate import estimate
from fiat_jax.reasoning.ledger import Ledger, Price
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Request
from fiat_jax.reasoning.store import Store
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.verbs import asking, exemplar_search, learning_curve, search, seeds
from fiat_jax.workbench import Workbench

TRAINING, READING, WRITING = 0.5, 0.8, 0.3  # of the speed of a matrix product: the demo on 2 cores
HEAD = ("recipe", "runs")
COMPILING = 40.0  # seconds of a run that trains; a quarter of that of one that answers alone


@dataclasses.dataclass(frozen=True)
class Budget:
  """Minutes and money; infinite where BUDGET does not say."""

  minutes: float = math.inf
  money: float = math.inf

  @classmethod
  def parse(cls, text: str) -> Budget:
    """Of `MINUTES` or `MINUTES,MONEY`; empty is without end.

    Raises:
      UserError: it is something else.
    """
    try:
      parts = [float(part) for part in text.split(",")] if text else []
      if len(parts) > 2 or not all(part >= 0 for part in parts):
        raise ValueError
      return cls(*parts)
    except ValueError:
      raise UserError(f"--budget {text!r}: give minutes, or minutes and money, as in 60 or 60,2.50") from None


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


def forecasts(bench: Workbench, recipes: Mapping[str, Recipe], folder: pathlib.Path) -> list[Forecast]:
  """Of every recipe, cheapest first; those whose runs are done take nothing."""
  return sorted((_forecast(bench, name, recipe, folder / name) for name, recipe in recipes.items()), key=_order)


def _order(forecast: Forecast) -> tuple[bool, float, float]:
  return forecast.order


class Runs:
  """What is run one after another, as long as the budget lasts.

  Attributes:
    names: what it allows, the cheapest first, and what is done already.
    over: what it does not.
  """

  def __init__(
    self,
    found: Sequence[Forecast],
    budget: Budget,
    clock: Callable[[], float] = time.monotonic,
    paid: Callable[[], float] = lambda: 0.0,
  ):
    """`paid` gives the money that was spent up to now, on other things too.

    Raises:
      UserError: as `require_prices`.
    """
    require_prices(found, budget)
    self._found, self._budget, self._clock, self._paid = found, budget, clock, paid
    self._started = self._since = clock()
    self._paid_before = paid()
    self._took: dict[str, float] = {}  # minutes
    self.names: list[str] = []
    minutes = money = 0.0
    for one in found:
      more, dearer = minutes + (one.minutes or 0.0), money + one.money
      if one.done or (more <= budget.minutes and dearer <= budget.money):
        minutes, money = more, dearer
        self.names.append(one.name)
    self.over = {one.name for one in found} - set(self.names)

  @property
  def left(self) -> list[str]:
    """What is still to be run."""
    return [name for name in self.names if name not in self._took]

  def next(self) -> str | None:
    """The next one; None where there is none."""
    self._since = self._clock()
    return next(iter(self.left), None)

  def end(self, name: str) -> None:
    """It has run. What the budget turns out not to allow after what that took is left out."""
    now = self._clock()
    self._took[name] = (now - self._since) / 60
    spent, money, correction = (now - self._started) / 60, self._paid() - self._paid_before, self._correction()
    for one in self._found:
      if one.name in self.left and not one.done:
        more, dearer = spent + correction * (one.minutes or 0.0), money + one.money
        if more <= self._budget.minutes and (dearer <= self._budget.money or not one.money):
          spent, money = more, dearer
        else:
          self.names.remove(one.name)
          self.over.add(one.name)
    if self.left:
      minutes = sum(correction * (one.minutes or 0.0) for one in self._found if one.name in self.left)
      say(f"{len(self._took)} of {len(self.names)} recipes are done; about {minutes:.0f} minutes to go")

  def _correction(self) -> float:
    """By what runs took longer than their forecasts, the middle one."""
    minutes = {one.name: one.minutes for one in self._found if one.minutes and not one.done}
    ratios = [took / minutes[name] for name, took in self._took.items() if name in minutes]
    return statistics.median(ratios) if ratios else 1.0


def require_prices(found: Sequence[Forecast], budget: Budget) -> None:
  """Raises UserError where the budget has an end to money, and nothing says what an endpoint's answers cost."""
  unknown = [one.title for one in found if one.money == math.inf and not one.done]
  if unknown and budget.money < math.inf:
    raise UserError(
      f"--budget: {budget.money:g} of money cannot be kept without the price of {', '.join(unknown)}: give --price "
      "INPUT,OUTPUT, money a million tokens, as in 0.15,0.60 (0,0 where it is free)"
    )


def paid_on(store: str) -> float:
  """All that counts as spent on a store, as its ledger has it; 0 where there is none."""
  if not store or not pathlib.Path(store).exists():
    return 0.0
  with contextlib.closing(Ledger(pathlib.Path(store), uuid.uuid4().hex[:12], 0.0)) as ledger:
    return ledger.spent


def table(found: Sequence[Forecast], names: Collection[str], budget: Budget, head: Sequence[str] = HEAD) -> str:
  """A row a recipe, in the order of the runs, and the sums over those of `names`."""
  kept = [one for one in found if one.name in names]
  rows = [[*head, "minutes, about", "money, about", ""], ["---", "---:", "---:", "---:", "---"]]
  for one in found:
    minutes = "?" if one.minutes is None else f"{one.minutes:.1f}"
    said = "done" if one.done else "" if one in kept else "over --budget"
    rows.append([one.title, str(one.runs), "0" if one.done else minutes, _money(one.money), said])
  minutes, money = sum(one.minutes or 0.0 for one in kept), sum(one.money for one in kept)
  rows.append(["together", str(sum(one.runs for one in kept if not one.done)), f"{minutes:.1f}", _money(money), ""])
  limits = [f"{value:g}" if value < math.inf else "" for value in (budget.minutes, budget.money)]
  if any(limits):
    rows.append(["budget", "", *limits, ""])
  return lay_out(rows)


def _money(amount: float) -> str:
  return "?" if amount == math.inf else f"{amount:.2f}"


def _forecast(bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path) -> Forecast:
  several = bench.settings.seeds if recipe.trains else (0,)
  count, money = float(len(_not_done(seeds.found(folder, several)))), 0.0
  if recipe.answer_of_beta:
    minutes: float | None = 0.0
  elif recipe.in_context:
    minutes, money = _of_asking(bench, recipe, folder)
  else:
    count = trainings(bench, recipe, folder) if recipe.trains else count
    minutes = count * _of_model(bench, recipe)
  done = not count if recipe.trains else bool(recipe.in_context) and minutes == money == 0
  return Forecast(name=name, title=recipe.title, runs=len(several), minutes=minutes, money=money, done=done)


def trainings(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> float:
  """How often the recipe is still to be trained on all rows; on fewer, a part of once.

  Where settings are still to be tried, all of its runs may be other ones, of which the best trial's is the first.
  """
  several, whole = bench.settings.seeds, learning_curve.whole(bench)
  ways = search.trials(bench.settings, recipe)
  tried = _not_done(search.places(folder, ways)) if len(ways) > 1 else []
  places = {size: seeds.found(learning_curve.place_of(folder, size), several) for size in learning_curve.sizes(bench)}
  if tried:
    return len(tried) + len(several) - 1 + len(several) * sum(places) / whole
  return (
    len(_not_done(seeds.found(folder, several))) + sum(size * len(_not_done(places[size])) for size in places) / whole
  )


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


def _of_model(bench: Workbench, recipe: Recipe) -> float:
  """Minutes of one run of a recipe in which MODEL or BASE_MODEL reads the tokenised rows."""
  bench = bench.of(recipe)
  settings = bench.settings
  size = lora.count(bench.models.of(recipe).family.shapes())
  passes = {split: 1.0 for split in ("validation", "test") if split in bench.rows}
  training = 0.0
  if recipe.trains:
    shards = [bench.shards.of("train", recipe), *([bench.shards.explained(recipe)] if recipe.distils else [])]
    count, tokens = len(shards[0]), sum(int((s.lengths("inputs") + s.lengths("targets")).sum()) for s in shards)
    size_of_update = min(settings.batch, count)
    steps = settings.steps or max(1, math.ceil(settings.epochs * count / size_of_update))
    training = steps * size_of_update / count * tokens * size * (6 if recipe.adapter == "full" else 4) / TRAINING
    every = settings.validate_every or max(1, -(-steps // 4))
    passes["validation"] += 1 + math.ceil(steps / every)
  answering = sum(times * _of_answers(bench, recipe, split, size) for split, times in passes.items())
  if bench.templates.unaided(recipe) and "test" in passes:
    answering += _of_answers(bench, recipe, "test", size)
  speed = machine.products_a_second(settings.dtype)
  minutes = ((training + answering) / speed + (COMPILING if recipe.trains else COMPILING / 4)) / 60
  return 2 * minutes if recipe.begins_with else minutes


def _of_answers(bench: Workbench, recipe: Recipe, split: str, size: int) -> float:
  """Operations to answer a split once, divided by how well they use the machine."""
  shard = bench.shards.of(split, recipe)
  read, written = int(shard.lengths("inputs").sum()), int(shard.lengths("targets").sum())
  if bench.settings.labels:
    labels = sum(len(row.labels) for row in bench.rows[split])
    return 2 * size * (read + labels * written / len(shard)) / READING
  return 2 * size * (read / READING + written / WRITING)
