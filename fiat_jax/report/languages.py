"""Scores language by language, with what the rows of each can bear, and who gains from reasoning."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from fiat_jax.evaluation import statistics, verdict
from fiat_jax.evaluation.statistics import ERROR, FEWEST_GROUPS, Drawn, Scored
from fiat_jax.report.results import Comparison, Result

FEWEST_LANGUAGES = 3  # any two points lie on a line


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageScore:
  """Of one recipe on one language's test rows.

  `interval` is None with too few groups for one. `differs` from the pick: Holm's p over all languages and recipes is at
  most `ERROR`.
  """

  score: float
  interval: tuple[float, float] | None
  differs: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gains:
  """What one more switch brings by language, against the score without it (the paper's Figure 3).

  Attributes:
    correlation: Pearson's, of gain and score without; None where it is not defined. Chance alone makes it negative:
      what the score without has by luck, the gain lacks.
    unbiased: of gain and the mean of both scores, which chance leaves alone if both vary as much (Oldham, 1962).
  """

  more: Result
  less: Result
  points: Mapping[str, tuple[float, float]]
  correlation: float | None
  unbiased: float | None


def scores(comparison: Comparison) -> dict[str, dict[str, LanguageScore]]:
  """By language and recipe, on the first metric."""
  every = {result.name: result.scores(comparison.metric) for result in comparison.results}
  drawn = {lang: _drawn(comparison, every, lang) for lang in comparison.languages}
  differ = _differing(comparison, drawn)
  found: dict[str, dict[str, LanguageScore]] = {}
  for lang, of_lang in drawn.items():
    enough = _groups(of_lang) >= FEWEST_GROUPS
    found[lang] = {
      result.name: LanguageScore(
        score=of_lang.scored.macro(result.name),
        interval=verdict.score_interval(of_lang, result.name) if enough else None,
        differs=(lang, result.name) in differ,
      )
      for result in comparison.results
    }
  return found


def gains(comparison: Comparison, more: Result, less: Result) -> Gains | None:
  """Of two recipes; None with fewer languages than make a picture."""
  metric, of_more, of_less = comparison.metric, more.test["languages"], less.test["languages"]
  if len(comparison.languages) < FEWEST_LANGUAGES:
    return None
  points = {
    lang: (of_less[lang][metric], of_more[lang][metric] - of_less[lang][metric]) for lang in comparison.languages
  }
  without, gained = np.array(list(points.values())).T
  return Gains(
    more=more,
    less=less,
    points=points,
    correlation=_correlation(without, gained),
    unbiased=_correlation(without + gained / 2, gained),
  )


def _drawn(comparison: Comparison, every: Mapping[str, np.ndarray], lang: str) -> Drawn:
  rows = [n for n, of_row in enumerate(comparison.langs) if of_row == lang]
  return statistics.resample(
    Scored(
      scores={name: of_all[:, rows] for name, of_all in every.items()},
      langs=[lang] * len(rows),
      groups=[comparison.groups[n] for n in rows],
      tuned=[result.name for result in comparison.results if result.trains],
    )
  )


def _groups(drawn: Drawn) -> int:
  return len(set(drawn.scored.groups))


def _differing(comparison: Comparison, drawn: Mapping[str, Drawn]) -> set[tuple[str, str]]:
  """Languages and recipes that are shown to differ from the pick there."""
  if not (pick := comparison.pick):
    return set()
  others = [result.name for result in comparison.results if result is not pick]
  claims = [(lang, name) for lang in drawn if _groups(drawn[lang]) >= FEWEST_GROUPS for name in others]
  p = statistics.holm([statistics.p_value(drawn[lang].difference(pick.name, name)) for lang, name in claims])
  return {claim for claim, value in zip(claims, p, strict=True) if value <= ERROR}


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
  if min(np.ptp(one), np.ptp(other)) < 1e-9:
    return None
  found = float(np.corrcoef(one, other)[0, 1])
  return found if math.isfinite(found) else None


def few_groups(comparison: Comparison) -> Sequence[str]:
  """Languages with too few groups of rows for an interval."""
  of = {lang: set[str]() for lang in comparison.languages}
  for lang, group in zip(comparison.langs, comparison.groups, strict=True):
    of[lang].add(group)
  return [lang for lang, groups in of.items() if len(groups) < FEWEST_GROUPS]
