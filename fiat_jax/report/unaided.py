"""What a model that was tuned with reasoning is worth where the big model is unavailable."""

from __future__ import annotations

import dataclasses

from fiat_jax.evaluation import statistics
from fiat_jax.evaluation.statistics import Scored
from fiat_jax.report import ablation
from fiat_jax.report.results import Comparison, Result

AIDED, ALONE = "with reasoning", "without"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Unaided:
  """Of one recipe: its score on test with the reasoning left out, and by how much that is above its own with it.

  `trained_without` is the recipe that differs in nothing but having learned without reasoning, where that was run.
  """

  result: Result
  score: float
  difference: float
  interval: tuple[float, float]
  p: float
  trained_without: Result | None


def unaided(comparison: Comparison) -> list[Unaided]:
  """Those recipes whose tuned models answered test without reasoning too."""
  without = {part.more.name: part.less for part in ablation.parts(comparison) if part.switch == "reasoning"}
  return [_of(comparison, result, without.get(result.name)) for result in comparison.results if result.unaided]


def _of(comparison: Comparison, result: Result, trained_without: Result | None) -> Unaided:
  metric = comparison.metric
  scores = {AIDED: result.scores(metric), ALONE: result.unaided_scores(metric)}
  drawn = statistics.resample(Scored(scores=scores, langs=comparison.langs, groups=comparison.groups))
  differences, score = drawn.difference(ALONE, AIDED), drawn.scored.macro(ALONE)
  low, high = statistics.interval(differences)
  return Unaided(
    result=result,
    score=score,
    difference=score - drawn.scored.macro(AIDED),
    interval=(max(-100.0, low), min(100.0, high)),
    p=statistics.p_value(differences),
    trained_without=trained_without,
  )
