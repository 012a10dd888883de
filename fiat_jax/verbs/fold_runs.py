"""Which recipes the folds of a comparison run: those whose runs in all folds a budget allows."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.verbs.budget import Budget, Runs, table
from fiat_jax.verbs.forecast import Forecast


class FoldRuns:
  """A recipe counts only where every fold has run it: one that is left out, is left out of what is said at the end.

  Attributes:
    names: what the budget allows, the cheapest first.
    over: what it does not.
  """

  def __init__(
    self,
    of_one: Sequence[Forecast],
    undone: Callable[[str, int], bool],
    count: int,
    budget: Budget,
    clock: Callable[[], float] = time.monotonic,
    paid: Callable[[], float] = lambda: 0.0,
  ):
    """
    Args:
      of_one: what each recipe takes in one fold.
      undone: of a recipe's name and a fold, whether it is still to be run there.
      count: of folds.
      paid: the money that was spent up to now, on other things too.

    Raises:
      UserError: a price is missing, or the budget allows nothing.
    """
    self._of_one, self._count, self._budget, self._clock, self._paid = of_one, count, budget, clock, paid
    self._left = [{one.name for one in of_one if undone(one.name, fold)} for fold in range(count)]
    self._started, self._paid_before = clock(), paid()
    found = self._from(0)
    self.names = Runs(found, budget).names
    self.over = {one.name for one in of_one} - set(self.names)
    self.shown = table(found, self.names, budget)
    self._require_some()

  def begin(self, fold: int) -> list[str]:
    """What the fold runs. What the budget turns out not to allow after what those before it took is left out."""
    foretold = sum(one.minutes or 0.0 for n in range(fold) for one in self._of_one if one.name in self._left[n])
    spent, paid = (self._clock() - self._started) / 60, self._paid() - self._paid_before
    found = self._from(fold, spent / foretold if foretold else 1.0)
    allowed = Runs(found, Budget(self._budget.minutes - spent, self._budget.money - paid)).names
    for one in found:
      if one.name in self.names and one.name not in allowed:
        say(f"{one.title}: left out from here on, --budget does not allow it in all folds; what is done is kept")
        self.names.remove(one.name)
        self.over.add(one.name)
    self._require_some()
    return self.names

  def _from(self, fold: int, correction: float = 1.0) -> list[Forecast]:
    """What the folds from this one on take, by how much longer those before it took than was foretold."""
    found = []
    for one in self._of_one:
      folds = sum(one.name in left for left in self._left[fold:])
      if not folds:
        found.append(dataclasses.replace(one, minutes=0.0, money=0.0, done=True))
        continue
      minutes, money = (None if one.minutes is None else folds * correction * one.minutes), folds * one.money
      nothing = minutes == money == 0
      found.append(dataclasses.replace(one, runs=folds * one.runs, minutes=minutes, money=money, done=nothing))
    return sorted(found, key=lambda one: one.order)

  def _require_some(self) -> None:
    if not self.names:
      limits = " and ".join(f"{value:g}" for value in (self._budget.minutes, self._budget.money) if value < math.inf)
      raise UserError(f"--budget {limits}: it allows no recipe in all folds; raise it, or name cheaper --recipes")
