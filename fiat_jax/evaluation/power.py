"""How small a difference a test set can show, before a run from assumptions and after it from what was measured.

Approximations of Student's and the noncentral distribution, close to 1 % from 5 degrees of freedom on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from fiat_jax.evaluation.statistics import ERROR, FEWEST_GROUPS, SEED_SCATTER, Scored, group_totals, row_weights

POWER = 0.8
DISCORDANCE = 0.2  # of rows that one recipe gets right and the other wrong; on the shipped set 0.09 to 0.78
WITHIN = 0.2  # correlation of the difference within a group; on the shipped set 0 to 0.4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Precision:
  """The standard error of a difference between two recipes, in points, with the degrees of freedom behind it.

  `step` is what one row changes: scores that come in steps tie, ties count against a difference, and that costs about
  one step (a continuity correction). `lasting` is what of the error's square stays however many the rows: the seeds'.
  """

  error: float
  freedom: float
  groups: int
  step: float = 0.0
  lasting: float = 0.0

  def power(self, difference: float) -> float:
    """The chance that a true difference is shown (Abramowitz and Stegun, 26.7.10)."""
    if self.groups < FEWEST_GROUPS:
      return 0.0
    if not self.error:
      return float(difference != 0)
    quantile, spread = self._critical()
    return NormalDist().cdf(((abs(difference) - self.step) / self.error - quantile) / spread)

  def detectable(self, power: float = POWER) -> float:
    """The difference that is shown with this power, in points; infinite with too few groups."""
    if self.groups < FEWEST_GROUPS:
      return math.inf
    quantile, spread = self._critical()
    return self.step + self.error * (quantile + NormalDist().inv_cdf(power) * spread)

  def rows_for(self, difference: float, rows: int, power: float = POWER) -> int | None:
    """How many rows, in groups like those of these `rows`, would show a difference with this power.

    None where that is not known, or no number of rows would.
    """
    if not 0 < self.error < math.inf:
      return None
    wanted, shrinking = float(rows), self.error**2 - self.lasting
    for _ in range(20):
      groups = max(FEWEST_GROUPS, math.ceil(self.groups * wanted / rows))
      freedom = max(FEWEST_GROUPS - 1.0, (self.freedom + 1) * wanted / rows - 1)
      unit = Precision(error=1.0, freedom=freedom, groups=groups).detectable(power)
      left = max(0.0, difference - self.step * rows / wanted) / unit  # the error that would do
      if left**2 <= self.lasting:
        if difference / unit <= math.sqrt(self.lasting):
          return None
        wanted *= 2
      else:
        wanted = max(1.0, rows * shrinking / (left**2 - self.lasting))
    return math.ceil(max(wanted, rows * FEWEST_GROUPS / self.groups))

  def _critical(self) -> tuple[float, float]:
    """Where a difference over its error begins to count, and how much it spreads around its mean."""
    quantile = _student(1 - ERROR / 2, self.freedom)
    return quantile * (1 - 1 / (4 * self.freedom)), math.sqrt(1 + quantile**2 / (2 * self.freedom))


def planned(
  langs: Sequence[str],
  groups: Sequence[str],
  *,
  seeds: int = 0,
  discordance: float = DISCORDANCE,
  within: float = WITHIN,
) -> Precision:
  """The precision of a 0-or-100 metric on these rows, if the recipes differ on that share of them.

  Args:
    langs, groups: of each row.
    seeds: of either recipe, which scatter by SEED_SCATTER; 0: they hang on none.
    discordance: the share of rows on which one recipe is right and the other wrong.
    within: the correlation of the difference between two rows of a group.
  """
  weights = row_weights(langs)
  totals = group_totals(weights, groups)
  squares = (1 - within) * np.square(weights).sum() + within * np.square(totals).sum()
  freedom = max(1.0, 1 / np.square(totals).sum() - 1)  # groups of unequal size count as fewer
  lasting = 2 * SEED_SCATTER**2 / seeds if seeds else 0.0
  error = math.sqrt(100**2 * discordance * squares + lasting)
  return Precision(error=error, freedom=freedom, groups=len(totals), step=100 * float(weights.min()), lasting=lasting)


def measured(scored: Scored, first: str, second: str) -> Precision:
  """The precision of the difference between two recipes as their scores show it, seeds included (Satterthwaite)."""
  weights = row_weights(scored.langs)
  differences = scored.scores[first].mean(axis=0) - scored.scores[second].mean(axis=0)
  totals = group_totals(weights, scored.groups)
  freedom = max(1.0, 1 / np.square(totals).sum() - 1)
  residuals = group_totals(weights * differences, scored.groups) - totals * (weights @ differences)
  variance = float(np.square(residuals).sum()) * (freedom + 1) / freedom
  seeds, of_seeds = scored.seed_error(first, second)
  if seeds:
    below = variance**2 / freedom + seeds**2 / of_seeds
    freedom = (variance + seeds) ** 2 / below if below else math.inf
  changes = np.abs(weights * differences)
  step = float(np.min(changes, where=changes > 1e-9, initial=np.inf))
  error = math.sqrt(variance + seeds)
  step = step if step < math.inf else 0.0
  return Precision(error=error, freedom=freedom, groups=len(totals), step=step, lasting=seeds)


def _student(probability: float, freedom: float) -> float:
  """Student's quantile by Cornish and Fisher's expansion (Abramowitz and Stegun, 26.7.5)."""
  z = NormalDist().inv_cdf(probability)
  terms = (
    (z**3 + z) / 4,
    (5 * z**5 + 16 * z**3 + 3 * z) / 96,
    (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
  )
  return z + sum(term / freedom**order for order, term in enumerate(terms, 1))
