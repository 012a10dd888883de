"""Where recipes stand to the pick on test, and what the first picture says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fiat_jax.evaluation.statistics import ERROR
from fiat_jax.report.results import Comparison, Result


def alike(comparison: Comparison) -> list[Result]:
  """The pick and the recipes that test does not tell from it; none without a verdict."""
  return [comparison.pick, *_beside(comparison, lambda pair: pair["p"] > ERROR)] if comparison.pick else []


def above(comparison: Comparison) -> list[Result]:
  """The recipes that test puts above the pick; none without a verdict."""
  return _beside(comparison, lambda pair: pair["p"] <= ERROR and pair["difference"] > 0)


def _beside(comparison: Comparison, wanted: Callable[[Mapping[str, Any]], bool]) -> list[Result]:
  """Those recipes whose pair with the pick, they first, is such."""
  pick = comparison.pick
  others = [(r, comparison.pair(r, pick)) for r in comparison.results if r is not pick] if pick else []
  return [result for result, pair in others if pair and wanted(pair)]


def caption(comparison: Comparison, sure: str) -> str:
  """What the first picture's points are."""
  near, higher = alike(comparison), above(comparison)
  says = []
  if near:
    alone = "the best on validation" + ("" if higher else ", which is above all others on test")
    several = "the best on validation, and what test does not tell from it"
    several += "" if higher else "; the band reaches over their scores"
    says = [f"Filled: {several if len(near) > 1 else alone}."]
  if higher:
    says.append("Large and filled: above it on test, so that validation and test disagree.")
  if len(near) + len(higher) < len(comparison.results) and near:
    says.append("Hollow: below it on test, row by row, wherever its score lies.")
  says.append(f"Lines are {sure}s.")
  says.append(f"A triangle reads the big model's reasoning{_of_seconds(comparison)}.")
  return " ".join(says)


def _of_seconds(comparison: Comparison) -> str:
  """Whether its seconds are among those that are shown."""
  reading = [result for result in comparison.results if result.reads_reasoning and not result.of_beta]
  lacking = [result for result in reading if result.lacks_beta_seconds]
  if not lacking:
    return ", whose seconds are counted" if reading else ""
  which = "" if len(lacking) == len(reading) else f" of {', '.join(result.title for result in lacking)}"
  return f", whose seconds{which} come on top and are not known here"
