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
    of_folds: Sequence[Sequence[Forecast]],
    budget: Budget,
    clock: Callable[[], float] = time.monotonic,
    paid: Callable[[], float] = lambda: 0.0,
  ):
    """
    Args:
      of_folds: what is left to do in each fold, of the same recipes.
      paid: the money that was spent up to now, on other things too.

    Raises:
      UserError: a price is missing, or the budget allows nothing.
    """
    self._of_folds, self._budget, self._clock, self._paid = of_folds, budget, clock, paid
    self._started, self._paid_before = clock(), paid()
    self._foretold = 0.0  # minutes of what was run up to now
    found = self._from(0)
    self.names = Runs(found, budget).names
    self.over = {one.name for one in found} - set(self.names)
    self.shown = table(found, self.names, budget)
    self._require_some()

  def begin(self, fold: int) -> list[str]:
    """What the fold runs. What the budget turns out not to allow after what those before it took is left out.

    Raises:
      UserError: that is all.
    """
    spent, paid = (self._clock() - self._started) / 60, self._paid() - self._paid_before
    found = self._from(fold, spent / self._foretold if self._foretold else 1.0)
    allowed = Runs(found, Budget(self._budget.minutes - spent, self._budget.money - paid)).names
    for one in found:
      if one.name in self.names and one.name not in allowed:
        say(f"{one.title}: left out from here on, --budget does not allow it in all folds; what is done is kept")
        self.names.remove(one.name)
        self.over.add(one.name)
    self._require_some()
    self._foretold += sum(one.minutes or 0.0 for one in self._of_folds[fold] if one.name in self.names)
    return self.names

  def _from(self, fold: int, correction: float = 1.0) -> list[Forecast]:
    """What the folds from this one on take, by how much longer those before it took than was foretold."""
    found = []
    for one in self._of_folds[-1]:
      left = [other for of in self._of_folds[fold:] for other in of if other.name == one.name and not other.done]
      minutes = None if any(of.minutes is None for of in left) else correction * sum(of.minutes or 0.0 for of in left)
      money = sum(of.money for of in left)
      runs = sum(of.runs for of in left)
      found.append(dataclasses.replace(one, runs=runs, minutes=minutes, money=money, done=minutes == money == 0))
    return sorted(found, key=lambda one: one.order)

  def _require_some(self) -> None:
    if not self.names:
      limits = " and ".join(f"{value:g}" for value in (self._budget.minutes, self._budget.money) if value < math.inf)
      raise UserError(
        f"--budget {limits}: it allows no recipe in all folds. What is done is kept: give the same command more, or "
        "cheaper --recipes"
      )
