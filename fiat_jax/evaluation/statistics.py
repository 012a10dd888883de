"""What scores on a test set can bear: resampling of groups, intervals, p-values, Holm's correction. numpy alone.

A score is the macro average: the plain mean over languages of the means over a language's rows. What is drawn is a
random half of the *groups* (each in or out by a coin), and the score of every recipe on it, a row weighing what it does
in the macro average of all rows. These subset scores are Hartigan's typical values (JASA 64, 1969): where groups are
independent and the difference between two recipes is as likely to be d as -d on each, the true difference lies between
two neighbouring subset scores with equal probability, whichever two, for any number of groups. So the interval and the
p-value are those of a paired test that swaps the two recipes' names group by group. A plain bootstrap of few groups has
no such guarantee and calls too much.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np

ERROR = 0.05
REPLICATES = 10_000
FEWEST_GROUPS = 6  # of five groups one subset in 32 is empty, which is more than half of ERROR: nothing can be shown
CHUNK = 1 << 20  # coins tossed at a time
SEED_SCATTER = 1.0  # points between runs of one recipe, beyond their rows: what `launch/seed_scatter.py` found in seven


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
  """Scores of recipes on the same N rows: `scores[recipe]` is [seeds, N]; `langs` and `groups` have one text a row.

  `tuned` names the recipes whose score hangs on a seed, so that of one seed `SEED_SCATTER` is assumed.
  """

  scores: Mapping[str, np.ndarray]
  langs: Sequence[str]
  groups: Sequence[str]
  tuned: Collection[str] = ()

  def macro(self, recipe: str) -> float:
    """The macro average, over seeds the mean."""
    return float(self.by_seed(recipe).mean())

  def by_seed(self, recipe: str) -> np.ndarray:
    """The macro average of each seed, [seeds]."""
    return self.scores[recipe] @ row_weights(self.langs)

  def alone(self, recipe: str) -> bool:
    """Whether seeds count, and there is one."""
    return recipe in self.tuned and len(self.scores[recipe]) == 1

  def seed_error(self, *recipes: str) -> tuple[float, float]:
    """The variance that seeds give the difference of two recipes' mean scores, or one's own; its degrees of freedom
    (Satterthwaite, Biometrics Bulletin 2, 1946)."""
    parts = [(self._seed_variance(name), len(self.scores[name]) - 1 or math.inf) for name in recipes]
    variance = sum(part for part, _ in parts)
    below = sum(part**2 / freedom for part, freedom in parts)
    return variance, variance**2 / below if below else math.inf

  def _seed_variance(self, recipe: str) -> float:
    """Of the mean over seeds; assumed where there is one."""
    seeds = len(self.scores[recipe])
    if seeds < 2:
      return SEED_SCATTER**2 if self.alone(recipe) else 0.0
    return max(0.0, self.seed_scatter(recipe)) / seeds

  def seed_scatter(self, recipe: str) -> float:
    """The variance of one run's score from seed to seed, of two or more, beyond what shows between groups already.

    Unbiased, so it may be negative.
    """
    seeds = len(self.scores[recipe])
    weights, scores = row_weights(self.langs), self.by_seed(recipe)
    sizes, totals = group_totals(weights, self.groups), group_totals(self.scores[recipe] * weights, self.groups)
    scatter = totals - totals.mean(axis=0) - np.outer(scores - scores.mean(), sizes)
    within = np.square(scatter).sum() / (seeds - 1) * len(sizes) / max(1, len(sizes) - 1)
    return float(scores.var(ddof=1) - within)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Drawn:
  """Recipes' scores on the same random subsets of groups: `values[recipe]` is [R], NaN where the subset is empty.

  Over several seeds an error is added, drawn from Student's distribution: seeds themselves, two or three of them
  resampled, would show a half or two thirds of their variance and nothing of how uncertain that is. Of one seed a
  normal error is added that is assumed.
  """

  scored: Scored
  values: Mapping[str, np.ndarray]

  def score(self, recipe: str) -> np.ndarray:
    """Draws of one recipe's score, [R]."""
    return self.values[recipe] + self._seed_error(recipe)

  def difference(self, first: str, second: str) -> np.ndarray:
    """Draws of how much the first scores above the second, on the same rows, [R]."""
    return self.values[first] - self.values[second] + self._seed_error(first, second)

  def _seed_error(self, *recipes: str) -> np.ndarray | float:
    variance, freedom = self.scored.seed_error(*recipes)
    if not variance:
      return 0.0
    generator, count = np.random.default_rng(0), len(self.values[recipes[0]])
    drawn = generator.standard_normal(count) if freedom == math.inf else generator.standard_t(freedom, count)
    return variance**0.5 * drawn


def row_weights(langs: Sequence[str]) -> np.ndarray:
  """The weight of each row in the macro average, [N]; they sum to 1."""
  _, codes, counts = np.unique(np.asarray(langs), return_inverse=True, return_counts=True)
  return 1 / (len(counts) * counts[codes])


def group_totals(values: np.ndarray, groups: Sequence[str]) -> np.ndarray:
  """Sums over each group's rows, groups sorted by name: [..., N] to [..., G]."""
  _, codes = np.unique(np.asarray(groups), return_inverse=True)
  return np.stack([np.bincount(codes, row) for row in values.reshape(-1, len(codes))]).reshape(*values.shape[:-1], -1)


def standard_error(values: Sequence[float], langs: Sequence[str], groups: Sequence[str]) -> float | None:
  """The standard error of the macro average of the rows' scores, rows of one group drawn together.

  Without groups and languages it is the sample's standard deviation over the root of N; else linearised, between
  groups. None where there is but one group.
  """
  scores, weights = np.asarray(values, float), row_weights(langs)
  _, which = np.unique(np.asarray(langs), return_inverse=True)
  means = np.bincount(which, scores) / np.bincount(which)
  totals = group_totals(weights * (scores - means[which]), groups)
  count = totals.shape[-1]
  return float(np.sqrt(count / (count - 1) * np.sum(totals**2))) if count > 1 else None


def resample(scored: Scored, replicates: int = REPLICATES) -> Drawn:
  """The score of every recipe on about `replicates` random subsets of groups, in bounded memory.

  Up to 13 groups every subset comes equally often, so that nothing is left to chance.
  """
  weights = row_weights(scored.langs)
  columns = [weights, *(weights * scores.mean(axis=0) for scores in scored.scores.values())]
  totals = group_totals(np.stack(columns), scored.groups).T
  sums = np.concatenate([subset @ totals for subset in _subsets(len(totals), replicates)])
  with np.errstate(invalid="ignore"):
    values = sums[:, 1:] / sums[:, :1]
  return Drawn(scored=scored, values=dict(zip(scored.scores, values.T, strict=True)))


def interval(drawn: np.ndarray, error: float = ERROR) -> tuple[float, float]:
  """The interval of resampled scores or differences; infinite where there are too few groups for one."""
  below, above = np.sort(_ends(drawn)), np.sort(-_ends(-drawn))
  rank = _rank(drawn, error)
  return float(below[rank]), float(above[-1 - rank])


def p_value(drawn: np.ndarray) -> float:
  """Two-sided, of the hypothesis that a difference is 0: at most `error` where the interval leaves 0 out."""
  lower, upper = np.count_nonzero(_ends(drawn) <= 0), np.count_nonzero(-_ends(-drawn) >= 0)
  return min(1.0, 2 * min(lower, upper) / len(drawn))


def holm(p_values: Sequence[float]) -> list[float]:
  """Holm's adjusted p-values (Scandinavian Journal of Statistics 6, 1979), in the order given."""
  adjusted, highest = [0.0] * len(p_values), 0.0
  for place, number in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
    highest = max(highest, min(1.0, (len(p_values) - place) * p_values[number]))
    adjusted[number] = highest
  return adjusted


def _subsets(groups: int, replicates: int) -> Iterator[np.ndarray]:
  """Zeros and ones [some, G], in chunks. The empty subset is among them: it stands for the data as observed."""
  if 2**groups <= replicates:
    every = (np.arange(2**groups)[:, None] >> np.arange(groups)) & 1
    for _ in range(-(-replicates // len(every))):
      yield every.astype(float)
    return
  yield np.zeros((1, groups))
  generator, left = np.random.default_rng(0), replicates // 2
  while left > 0:
    size = min(left, max(1, CHUNK // groups))
    half = generator.integers(0, 2, (size, groups), dtype=np.int8).astype(float)
    yield half
    yield 1 - half  # with its complement, so that the whole lies in the middle
    left -= size


def _ends(drawn: np.ndarray) -> np.ndarray:
  """Empty subsets as the lowest; sums that differ by rounding alone as equal, since ties decide on discrete scores."""
  return np.where(np.isnan(drawn), -np.inf, np.round(drawn, 9))


def _rank(drawn: np.ndarray, error: float) -> int:
  return int(np.floor(len(drawn) * error / 2 + 1e-9))
