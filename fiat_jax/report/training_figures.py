"""Pictures of learning: over the steps of training, over the number of training rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fiat_jax.report.drawing import draw, series
from fiat_jax.report.labels import LABEL_OFFSET, LETTER, WIDE, label, short
from fiat_jax.report.results import Comparison, Result

if TYPE_CHECKING:
  from matplotlib.axes import Axes

Points = Sequence[tuple[int, float]]


def curves_of(comparison: Comparison) -> list[tuple[Result, Points]]:
  """Each trained recipe's validation over training, over seeds the mean of the steps that all have."""
  found = []
  for result in comparison.results:
    runs = [{point["step"]: point[comparison.metric] for point in run.get("curve", ())} for run in result.runs]
    steps = sorted(set.intersection(*map(set, runs)))
    if len(steps) > 1:
      found.append((result, [(step, statistics.fmean(run[step] for run in runs)) for step in steps]))
  return found


def curves(comparison: Comparison, drawn: Sequence[tuple[Result, Points]], name: str = "curves") -> str:
  """Validation over training, from before the first step; the paper's Figure 5 with and without instructions."""

  def paint(axes: Axes) -> None:
    for number, (_, points) in enumerate(drawn):
      steps, values = zip(*points, strict=True)
      axes.plot(steps, values, marker="o", markersize=3, **series(number))
    axes.set_xlabel("training step")
    axes.locator_params(axis="x", integer=True)
    axes.set_ylabel(f"{comparison.metric} on validation")
    last, longest = max(points[-1][0] for _, points in drawn), max(len(short(result.title)) for result, _ in drawn)
    axes.set_xlim(-0.02 * last, last * (1.05 + min(1.0, longest * LETTER)))
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= last])
    label(axes, [(*points[-1], short(result.title)) for result, points in drawn], side=1)

  told = "; ".join(f"{r.title}: from {points[0][1]:.1f} to {points[-1][1]:.1f}" for r, points in drawn)
  return draw(name, f"{comparison.metric} on validation over training", told, WIDE, paint)


def sizes(comparison: Comparison, drawn: Sequence[Result]) -> str:
  """The learning curve: score on test over the number of training rows, with its interval."""

  def paint(axes: Axes) -> None:
    axes.set_xscale("log", base=2)
    for number, result in enumerate(drawn):
      points = result.record["sizes"]["points"]
      rows, values = [p["rows"] for p in points], [p["test"] for p in points]
      ends = [
        [max(0.0, p["test"] - p["interval"][0]) for p in points],
        [max(0.0, p["interval"][1] - p["test"]) for p in points],
      ]
      axes.errorbar(rows, values, yerr=ends, marker="o", markersize=3, elinewidth=1, capsize=2, **series(number))
    every = sorted({p["rows"] for result in drawn for p in result.record["sizes"]["points"]})
    axes.set_xlim(every[0] / 1.15, every[-1] * (every[-1] / every[0]) ** 0.6)
    axes.set_xticks(every, labels=[f"{rows:,}" for rows in every])
    axes.minorticks_off()
    axes.set_xlabel("training rows")
    axes.set_ylabel(f"{comparison.metric} on test")
    places = [result.record["sizes"]["points"][-1] for result in drawn]
    for place, result in zip(places, drawn, strict=True):
      axes.annotate(
        short(result.title),
        (place["rows"], place["test"]),
        xytext=(LABEL_OFFSET, 0),
        textcoords="offset points",
        va="center",
        fontsize="small",
      )

  told = "; ".join(
    f"{r.title}: " + ", ".join(f"{p['test']:.1f} on {p['rows']:,}" for p in r.record["sizes"]["points"]) for r in drawn
  )
  return draw("sizes", f"{comparison.metric} on test over training rows", told, WIDE, paint)
