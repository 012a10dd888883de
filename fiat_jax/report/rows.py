"""Single test rows: which recipes are right about each, and those about which they disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from fiat_jax.report.results import Answer, Comparison, Result

EXACT = ("exact_match", "accuracy")  # of these an answer has 100 or 0
HALF = 50.0
MOST_SHOWN = 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class Crossed:
  """Rows by whether the big model's own answer is right and whether the tuned model's is; over seeds the mean."""

  tuned: Result
  both: float
  beta_alone: float
  tuned_alone: float
  neither: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disagreement:
  """A row that some recipes get right and others wrong; `answers` of the first seed, by the recipe's name."""

  answer: Answer
  reasoning: str
  answers: Mapping[str, Answer]
  right: Mapping[str, bool]


def rightness(comparison: Comparison) -> str:
  """When an answer counts as right, in words."""
  exact = _exact(comparison)
  return f"{exact} is 100" if exact else f"{comparison.metric} is at least {HALF:g}"


def right(comparison: Comparison, result: Result) -> np.ndarray:
  """Of every test row, [seeds, N], boolean."""
  exact = _exact(comparison)
  return result.scores(exact) >= 100 if exact else result.scores(comparison.metric) >= HALF


def crossed(comparison: Comparison) -> list[Crossed]:
  """One for each trained recipe that reads reasoning; none without the big model's own answers."""
  beta = next((result for result in comparison.results if result.of_beta), None)
  if not beta:
    return []
  of_beta = right(comparison, beta)
  return [
    _cross(of_beta, right(comparison, result), result)
    for result in comparison.results
    if result.trains and result.reads_reasoning
  ]


def _cross(beta: np.ndarray, tuned: np.ndarray, result: Result) -> Crossed:
  count = lambda rows: float(rows.sum(axis=-1).mean())  # noqa: E731
  return Crossed(
    tuned=result,
    both=count(beta & tuned),
    beta_alone=count(beta & ~tuned),
    tuned_alone=count(~beta & tuned),
    neither=count(~beta & ~tuned),
  )


def disagreements(comparison: Comparison) -> tuple[list[Disagreement], int]:
  """The rows to show, and how many there are in all.

  Of each language first those that decide: one of the pick and the recipe that it is set against is right. Of these,
  and behind them, those about which opinion is most divided.
  """
  judged = np.stack([right(comparison, result)[0] for result in comparison.results])
  share = judged.mean(axis=0)
  split = np.flatnonzero((share > 0) & (share < 1))
  first, second = _rivals(comparison)
  alike = judged[first] == judged[second]
  order = _in_turn(comparison, split[np.lexsort((np.abs(share[split] - 0.5), alike[split]))])
  return [_disagreement(comparison, int(n), judged[:, n]) for n in order[:MOST_SHOWN]], len(split)


def order(comparison: Comparison) -> str:
  """How the rows to show are chosen, in words."""
  first, second = (comparison.results[place].title for place in _rivals(comparison))
  decide = f"those first where one of {first} and {second} is right, then " if comparison.verdict else ""
  return f"{decide}the most divided first"


def _disagreement(comparison: Comparison, row: int, judged: np.ndarray) -> Disagreement:
  answers = {result.name: result.answers[0][row] for result in comparison.results}
  readers = [r.name for r in comparison.results if r.reads_reasoning and r.switches["reasoning_form"] == "whole"]
  return Disagreement(
    answer=comparison.answers[row],
    reasoning=next((given for name in readers if (given := answers[name].get("reasoning"))), ""),
    answers=answers,
    right={result.name: bool(value) for result, value in zip(comparison.results, judged, strict=True)},
  )


def _rivals(comparison: Comparison) -> tuple[int, int]:
  """The places of the pick and of the recipe that the verdict sets it against; without a verdict any one, twice."""
  names = [result.name for result in comparison.results]
  verdict = comparison.verdict
  return (names.index(verdict["pick"]), names.index(verdict["against"])) if verdict else (0, 0)


def _in_turn(comparison: Comparison, rows: Sequence[int] | np.ndarray) -> list[int]:
  """The same rows, one language after another, so that no language fills the page."""
  seen: dict[str, int] = {}
  ranked = []
  for place, row in enumerate(rows):
    lang = comparison.langs[row]
    seen[lang] = seen.get(lang, 0) + 1
    ranked.append((seen[lang], place, int(row)))
  return [row for _, _, row in sorted(ranked)]


def _exact(comparison: Comparison) -> str | None:
  return next((metric for metric in comparison.metrics if metric in EXACT), None)
