"""The learning curve on test: what each number of training rows scores, and what more rows would bring."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiat_jax.evaluation import statistics
from fiat_jax.evaluation.statistics import Scored
from fiat_jax.evaluation.verdict import score_interval

MORE = 400  # rows
FARTHEST = 3.0  # times the last step, in doublings: beyond, what it brought says nothing of what comes


def between(
  scores: Mapping[int, Mapping[str, np.ndarray]], langs: Sequence[str], groups: Sequence[str]
) -> list[dict[str, Any]]:
  """For `results.json`: by how many points recipes differ on each number of training rows, p-values as Holm has them.

  Args:
    scores: of each test row, by the number of training rows and the recipe, [seeds, N].
    langs, groups: of the test rows.
  """
  found = []
  for size, of_recipes in sorted(scores.items()):
    scored = Scored(scores=of_recipes, langs=langs, groups=groups, tuned=of_recipes)
    drawn = statistics.resample(scored)
    for first, second in itertools.combinations(of_recipes, 2):
      draws = drawn.difference(first, second)
      gap, ends, p = scored.macro(first) - scored.macro(second), statistics.interval(draws), statistics.p_value(draws)
      found.append({"rows": size, "first": first, "second": second, "difference": gap, "interval": ends, "p": p})
  adjusted = statistics.holm([pair["p"] for pair in found])
  return [{**pair, "p": p} for pair, p in zip(found, adjusted, strict=True)]


def judge(
  scores: Mapping[int, np.ndarray], validation: Mapping[int, float], langs: Sequence[str], groups: Sequence[str]
) -> dict[str, Any]:
  """For `results.json`: `points`, a number of rows each, and `more`: what `MORE` rows would add.

  That is what the last step, from the second largest number of rows to all, brought a doubling, carried on: scores
  grow by the logarithm of the rows at the most, so it is what to hope for. Its interval is that of the step. Both stay
  within what the metric has left, 0 to 100. `gain` and `interval` are None where that step is too small to carry on so
  far: more than `FARTHEST` times its own length.

  Args:
    scores: of each test row, by the number of training rows, [seeds, N]; two numbers at least.
    validation: the overall score there.
    langs, groups: of the test rows.
  """
  sizes = sorted(scores)
  of_sizes = {str(size): scores[size] for size in sizes}
  scored = Scored(scores=of_sizes, langs=langs, groups=groups, tuned=of_sizes)
  drawn = statistics.resample(scored)
  points = [
    {
      "rows": size,
      "test": scored.macro(str(size)),
      "interval": score_interval(drawn, str(size)),
      "validation": validation[size],
    }
    for size in sizes
  ]
  less, whole = sizes[-2:]
  share = math.log(1 + MORE / whole) / math.log(whole / less)
  if share > FARTHEST:
    return {"points": points, "more": {"rows": MORE, "gain": None, "interval": None}}
  reached = scored.macro(str(whole))
  ends = statistics.interval(drawn.difference(str(whole), str(less)))
  gain, low, high = (
    min(100.0 - reached, max(-reached, share * value)) for value in (reached - scored.macro(str(less)), *ends)
  )
  return {"points": points, "more": {"rows": MORE, "gain": gain, "interval": (low, high)}}
