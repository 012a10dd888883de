"""What a comparison may take, in minutes and money, and which runs that allows: before any work, and after each."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import pathlib
import statistics
import time
import uuid
from collections.abc import Callable, Collection, Sequence

from fiat_jax.errors import UserError
from fiat_jax.evaluation.report import lay_out
from fiat_jax.progress import say
from fiat_jax.reasoning.ledger import Ledger
from fiat_jax.verbs.forecast import Forecast

HEAD = ("recipe", "runs")


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
    """What is still to be run, or to be read again where it is done already."""
    return [name for name in self.names if name not in self._took]

  @property
  def undone(self) -> list[str]:
    """What of it is not done already."""
    done = {one.name for one in self._found if one.done}
    return [name for name in self.left if name not in done]

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
          say(f"{one.title}: not run, --budget does not allow it after what the others took; raise it and go on")
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
