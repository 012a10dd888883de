"""Which recipe to use, and how sure that is: picked on validation, tested on test. The rule is `RULE`."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from fiat_jax.evaluation import cost, power, statistics
from fiat_jax.evaluation.cost import Cost
from fiat_jax.evaluation.statistics import ERROR, FEWEST_GROUPS, SEED_SCATTER, Drawn, Scored
from fiat_jax.recipe import Recipe

MARGIN = 10.0  # points; a difference that an interval leaves open beyond this is not small
SHOWN = 5.0  # points; how many rows would show this much is told

Outcome = Literal["clear", "indistinguishable", "too little data"]

RULE = f"""\
The recipe that scores best on validation is the pick; of equals the cheaper. It alone is tested on test, against every
other recipe; a difference counts where p is at most {ERROR:g}. The outcome is

- clear: the pick is above every other recipe. It is the one to use.
- indistinguishable: it is not above all, and the {100 * (1 - ERROR):g} % interval of its difference to each of the rest
  stays within {MARGIN:g} points. The cheapest of those and the pick is the one to use, but for any that another of them
  is above: by money per 1,000 answers where that is known of all, else without reasoning before with, which costs an
  answer of the big model each time; then by seconds, the big model's with the tuned one's, where they are known of all
  that are left (less than a quarter more is the same); then without reasoning before with, untuned before tuned, and
  the big model's own answer before what a second model makes of it; of equals the better on validation. Whether it is
  MODEL or BASE_MODEL that answers does not count as a cost, but in seconds.
- too little data: an interval reaches further, and the pick is the best guess; or a recipe is above the pick on test,
  so that validation and test disagree, and that one is.

Interval and p come from about {statistics.REPLICATES:,} random subsets of the groups of rows (a row without a group is
one of its own), all recipes on the same ones, a row weighing what it does in the macro average over languages:
Hartigan's typical values, the inversion of a test that swaps two recipes' names group by group. Several seeds add the
error of their mean. Of one seed that is not known: what is tuned is taken to scatter by {SEED_SCATTER:g} point from
seed to seed (a standard deviation, that of recipes with three seeds on average). Several seeds tell. The p-values of
pairs without the pick are corrected by Holm; with folds, where every row is a validation row of one fold
and a test row of another, those of all pairs are. "Could show" is the true difference that rows like these show in
{100 * power.POWER:g} % of runs. With fewer than {FEWEST_GROUPS} groups nothing can be shown."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
  """A recipe that was run: its name in results, what it is, its score on validation (macro average, over seeds).

  `money`, `seconds` and, of these, `beta_seconds` are per 1,000 answers on test; None where they are not known.
  """

  name: str
  recipe: Recipe
  validation: float
  money: float | None = None
  seconds: float | None = None
  beta_seconds: float | None = None

  @property
  def title(self) -> str:
    return self.recipe.title or self.name

  @property
  def cost(self) -> Cost:
    """A tuned model alone answers at home, for nothing."""
    return Cost(
      asks_beta=self.recipe.asks_beta,
      tunes=self.recipe.trains and not self.recipe.asks_beta,
      money=self.money if self.recipe.asks_beta else 0.0,
      seconds=self.seconds,
      beta_seconds=self.beta_seconds,
      lacks_beta=self.recipe.reasoning and self.beta_seconds is None,
      adds=self.recipe.reasoning,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
  """Two recipes on test: points by which the first is above the second, with the interval and the p-value.

  `p` is Holm's where the pick is not among them. `could_show`: see `RULE`; None with too few groups.
  """

  first: str
  second: str
  difference: float
  interval: tuple[float, float]
  p: float
  could_show: float | None

  @property
  def shown(self) -> bool:
    return bool(self.p <= ERROR)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
  """The recipe to use. `difference`, `interval` and `p` are those of the pick above `against`, its closest rival.

  `pairs` holds those of the pick first; `apart`: these were tested without correction. `words` says it all in
  sentences, `costs` what the recipe's answers take.
  """

  recipe: str
  outcome: Outcome
  metric: str
  pick: str
  against: str
  difference: float
  interval: tuple[float, float]
  p: float
  pairs: tuple[Pair, ...]
  words: str
  costs: str
  apart: bool = True


def score_interval(drawn: Drawn, recipe: str) -> tuple[float, float]:
  """The interval of one recipe's score, within 0 to 100.

  For reading, not for tests: simulated, it holds the true score in 95 % of cases around 60 points, but near an end of
  the scale, where few groups rarely show what is rare, in 83 % (93 points, 12 groups) or 92 % (160 groups).
  """
  low, high = _within(statistics.interval(drawn.score(recipe)), 0.0, 100.0)
  if low == high:  # groups that do not differ tell nothing of those that would: the exact binomial bound
    unseen = 100 * (1 - (ERROR / 2) ** (1 / len(set(drawn.scored.groups))))
    low, high = _within((low - unseen, high + unseen), 0.0, 100.0)
  return low, high


def decide(candidates: Sequence[Candidate], drawn: Drawn, metric: str, *, apart: bool = True) -> Verdict:
  """The verdict over two or more recipes, by `RULE`.

  Args:
    candidates: in any order.
    drawn: their scores on test, resampled.
    metric: what was scored, for the record.
    apart: validation rows are no test rows; else, with folds, the pick's pairs are corrected as all others are.
  """
  best = max(c.validation for c in candidates)
  pick = _cheapest([c for c in candidates if c.validation == best])
  others = [c for c in candidates if c is not pick]
  own, rest = [_pair(drawn, pick.name, c.name) for c in others], _pairs(drawn, [c.name for c in others])
  if apart:
    rest = _corrected(rest)
  else:
    corrected = _corrected([*own, *rest])
    own, rest = corrected[: len(own)], corrected[len(own) :]
  found = _decided(pick, others, {pair.second: pair for pair in own}, rest, drawn, metric)
  return dataclasses.replace(found, apart=apart)


def _decided(
  pick: Candidate, others: Sequence[Candidate], own: Mapping[str, Pair], rest: Sequence[Pair], drawn: Drawn, metric: str
) -> Verdict:
  """By `RULE`, of the pick's pairs, by the other's name, and the rest."""
  above = [c for c in others if own[c.name].shown and own[c.name].difference < 0]
  rivals = [c for c in others if not (own[c.name].shown and own[c.name].difference > 0)]
  reach = {c.name: max(map(abs, own[c.name].interval)) for c in rivals}
  if not rivals:
    outcome, chosen = "clear", pick
  elif not above and max(reach.values()) <= MARGIN:
    worse = _below(rest, reach)
    outcome, chosen = "indistinguishable", _cheapest([pick, *(c for c in rivals if c.name not in worse)])
  else:
    outcome, chosen = "too little data", min(above, key=lambda c: own[c.name].difference, default=pick)
  if chosen is not pick:
    main = own[chosen.name]
  elif outcome == "too little data":
    main = own[max(reach, key=reach.__getitem__)]
  else:
    main = min((own[c.name] for c in rivals or others), key=lambda pair: pair.difference)
  against = next(c for c in others if c.name == main.second)
  return Verdict(
    recipe=chosen.name,
    outcome=outcome,
    metric=metric,
    pick=pick.name,
    against=against.name,
    difference=main.difference,
    interval=main.interval,
    p=main.p,
    pairs=(*own.values(), *rest),
    words=_words(outcome, pick, chosen, against, main) + _more_rows(outcome, main, drawn.scored) + _seeds(main, drawn),
    costs=chosen.cost.words(),
  )


def _below(pairs: Sequence[Pair], names: Collection[str]) -> set[str]:
  """Those of the names that another of them is shown to be above."""
  shown = [pair for pair in pairs if pair.shown and pair.first in names and pair.second in names]
  return {pair.second if pair.difference > 0 else pair.first for pair in shown}


def _cheapest(candidates: Sequence[Candidate]) -> Candidate:
  """Of equals the better on validation."""
  names = cost.cheapest({c.name: c.cost for c in candidates})
  return min((c for c in candidates if c.name in names), key=lambda c: (-c.validation, c.name))


def _pair(drawn: Drawn, first: str, second: str) -> Pair:
  scored, differences = drawn.scored, drawn.difference(first, second)
  could_show = power.measured(scored, first, second).detectable()
  return Pair(
    first=first,
    second=second,
    difference=scored.macro(first) - scored.macro(second),
    interval=_within(statistics.interval(differences), -100.0, 100.0),
    p=statistics.p_value(differences),
    could_show=could_show if math.isfinite(could_show) else None,
  )


def _pairs(drawn: Drawn, names: Sequence[str]) -> list[Pair]:
  return [_pair(drawn, one, other) for one, other in itertools.combinations(names, 2)]


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
  """With Holm's p-values."""
  adjusted = statistics.holm([pair.p for pair in pairs])
  return [dataclasses.replace(pair, p=p) for pair, p in zip(pairs, adjusted, strict=True)]


def _within(interval: tuple[float, float], low: float, high: float) -> tuple[float, float]:
  return max(low, interval[0]), min(high, interval[1])


def _words(outcome: Outcome, pick: Candidate, chosen: Candidate, against: Candidate, pair: Pair) -> str:
  gap = f"{pair.difference:+z.1f} points ({interval_text(pair.interval)}, p = {pair.p:.2g})"
  if outcome == "clear":
    return (
      f"Use {pick.title}. It was best on validation, and on test it is above every other recipe: "
      f"{gap} to {against.title}, the closest."
    )
  best = f"{pick.title} was best on validation"
  if outcome == "indistinguishable":
    cheap = f"{chosen.title} is cheaper" if chosen is not pick else "none that is as good is cheaper"
    worse = pair.interval[1] if chosen is not pick else -pair.interval[0]
    left = f"; it may be up to {worse:.1f} points worse" if worse > 0.05 else ""
    return f"Use {chosen.title}. {best}; on test it cannot be told from {against.title}: {gap}; {cheap}{left}."
  if pair.could_show is None:
    return (
      f"Too little data. {best} and is the best guess; fewer than {FEWEST_GROUPS} groups of test rows show nothing."
    )
  if chosen is not pick:
    return (
      f"Too little validation data: {pick.title} was best there, but on test {chosen.title} is above it: {gap}. The "
      "latter is the better guess."
    )
  return f"Too little data. {best} and is the best guess; on test it stands to {against.title} by {gap}."


def _more_rows(outcome: Outcome, pair: Pair, scored: Scored) -> str:
  """How many rows would do, where these do not."""
  rows = len(scored.groups)
  needed = power.measured(scored, pair.first, pair.second).rows_for(SHOWN, rows)
  if outcome != "too little data" or not needed or needed <= rows:
    return ""
  return f" To show {SHOWN:g} points takes about {round_up(needed):,} test rows like these {rows:,}."


def _seeds(pair: Pair, drawn: Drawn) -> str:
  """That of one seed an error is assumed, where it is in the interval."""
  assumed = any(drawn.scored.alone(name) for name in (pair.first, pair.second))
  told = f" One seed: others are assumed to scatter by {SEED_SCATTER:g} point; --seeds 0,1,2 measures it."
  return told if assumed and pair.could_show is not None else ""


def interval_text(interval: tuple[float, float]) -> str:
  return f"{100 * (1 - ERROR):g} % interval {interval[0]:.1f} to {interval[1]:.1f}"


def round_up(rows: int) -> int:
  """To two digits: more would pretend."""
  unit = 10 ** max(0, len(str(rows)) - 2)
  return -(-rows // unit) * unit
