"""The page's pictures. Each has a table beside it, which says the same in numbers."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fiat_jax.evaluation.statistics import ERROR
from fiat_jax.report.ablation import Part
from fiat_jax.report.drawing import colour, draw, series
from fiat_jax.report.languages import Gains, LanguageScore
from fiat_jax.report.results import Comparison, Result

if TYPE_CHECKING:
  from matplotlib.axes import Axes

Points = Sequence[tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class Measure:
  """What an answer takes, per 1,000: `of` gives it for a recipe, None where it is not known."""

  name: str
  of: Callable[[Result], float | None]


MONEY, SECONDS = Measure("money", lambda result: result.money), Measure("seconds", lambda result: result.seconds)
WIDE, SMALL = (340.0, 265.0), (170.0, 130.0)
LONGEST = 30  # letters of a title in a picture; the table beside it has all
LABEL_GAP, LABEL_OFFSET = 11.0, 6.0  # SVG units between two labels, and from a point to its own
LETTER = 0.022  # the width of one, of that of the axes
INNER = 0.8  # of a picture's height, the part that the axes take
UNMEASURED = -0.14  # of the largest measure: where recipes stand of which it is not known


def alike(comparison: Comparison) -> list[Result]:
  """The pick and the recipes that test does not tell from it; none without a verdict."""
  pick = comparison.pick
  if not pick:
    return []
  others = [(result, comparison.pair(result, pick)) for result in comparison.results if result is not pick]
  return [pick, *(result for result, pair in others if pair and pair["p"] > ERROR)]


def measures(comparison: Comparison) -> list[Measure]:
  """Money where some recipe's is known to cost any, and seconds; these alone stand there where nothing was measured."""
  return [MONEY] * any(result.money for result in comparison.results) + [SECONDS]


def first(comparison: Comparison, measure: Measure, sure: str) -> str:
  """Score with its interval against what an answer takes, a point a recipe, and the band of the best."""
  near, metric = alike(comparison), comparison.metric
  scores = {result.name: result.test["overall"][metric] for result in comparison.results}

  def paint(axes: Axes) -> None:
    places = _places(comparison.results, measure)
    if band := [scores[result.name] for result in near]:
      axes.axhspan(min(band) - 0.6, max(band) + 0.6, color=colour("band"), alpha=0.35, linewidth=0)
    for result, x in zip(comparison.results, places, strict=True):
      _point(axes, x, scores[result.name], result.interval, _style(result, near))
    _scale(axes, comparison.results, measure, places)
    axes.set_ylabel(f"{metric} on test")
    _label(axes, [(x, scores[r.name], _short(r.title)) for x, r in zip(places, comparison.results, strict=True)])

  known = {result.name: value for result in comparison.results if (value := measure.of(result)) is not None}
  told = "; ".join(
    f"{r.title}: {scores[r.name]:.1f}" + (f" at {known[r.name]:.3g} {measure.name}" if r.name in known else "")
    for r in comparison.results
  )
  title = f"{metric} against {measure.name} per 1,000 answers"
  return draw(f"first-{measure.name}", title, f"Each point is a recipe, with its {sure}. {told}", WIDE, paint)


def by_language(
  comparison: Comparison, measure: Measure, found: Mapping[str, Mapping[str, LanguageScore]]
) -> list[tuple[str, str]]:
  """The same for each language, small: its name and its picture. All have the same scales."""
  near, places = alike(comparison), _places(comparison.results, measure)
  shown = [of for scores in found.values() for of in scores.values()]
  ends = [end for of in shown for end in (of.interval or (of.score, of.score))]
  pictures = []
  for place, (lang, scores) in enumerate(found.items()):

    def paint(axes: Axes, scores: Mapping[str, LanguageScore] = scores) -> None:
      for result, x in zip(comparison.results, places, strict=True):
        of = scores[result.name]
        _point(axes, x, of.score, of.interval or (of.score, of.score), _style(result, near))
      _scale(axes, comparison.results, measure, places, small=True)
      axes.set_ylim(min(ends) - 4, max(ends) + 4)

    told = "; ".join(f"{result.title}: {scores[result.name].score:.1f}" for result in comparison.results)
    pictures.append((lang, draw(f"language-{place}", f"{comparison.metric}, {lang}", told, SMALL, paint)))
  return pictures


def parts(comparison: Comparison, found: Sequence[Part], sure: str) -> str:
  """What each switch brings, with its interval (the paper's Figures 4 and 6, and Table 3 one at a time)."""
  pairs = [(part, pair) for part in found if (pair := comparison.pair(part.more, part.less))]

  def paint(axes: Axes) -> None:
    axes.axvline(0, color=colour("soft"), linewidth=1)
    for row, (part, pair) in enumerate(reversed(pairs)):
      low, high = pair["interval"]
      tone = colour("accent" if pair["p"] <= ERROR else "soft")
      axes.plot([low, high], [row, row], color=tone, linewidth=2)
      axes.plot([pair["difference"]], [row], "o", color=tone)
      names = f"{part.called}: {_short(part.more.title)} − {_short(part.less.title)}"
      axes.text(0.01, row + 0.25, names, transform=axes.get_yaxis_transform(), fontsize="small")
    axes.set_yticks([])
    axes.set_ylim(-0.5, len(pairs) - 0.2)
    axes.set_xlabel(f"gain in {comparison.metric}, points")
    axes.grid(visible=False, axis="y")

  told = "; ".join(f"{part.called}: {pair['difference']:+.1f} points" for part, pair in pairs)
  size = (WIDE[0], 60.0 + 32 * len(pairs))
  return draw("parts", "What each part brings", f"With {sure}. {told}", size, paint)


def gains(found: Gains, metric: str) -> str:
  """The paper's Figure 3: the gain by language against the score without."""

  def paint(axes: Axes) -> None:
    axes.axhline(0, color=colour("soft"), linewidth=1)
    for less, gain in found.points.values():
      axes.plot([less], [gain], "o", color=colour("accent"))
    axes.set_xlabel(f"{metric} of {found.less.title}")
    axes.set_ylabel("gain, points")
    _label(axes, [(less, gain, lang) for lang, (less, gain) in found.points.items()])

  told = "; ".join(f"{lang}: {gain:+.1f} from {less:.1f}" for lang, (less, gain) in found.points.items())
  name = f"gains-{found.more.name}-{found.less.name}"
  return draw(name, f"Gain of {found.more.title} over {found.less.title} by language", told, WIDE, paint)


def curves_of(comparison: Comparison) -> list[tuple[Result, Points]]:
  """Each trained recipe's validation over training, over seeds the mean of the steps that all have."""
  found = []
  for result in comparison.results:
    runs = [{point["step"]: point[comparison.metric] for point in run.get("curve", ())} for run in result.runs]
    steps = sorted(set.intersection(*map(set, runs)))
    if len(steps) > 1:
      found.append((result, [(step, statistics.fmean(run[step] for run in runs)) for step in steps]))
  return found


def curves(comparison: Comparison, drawn: Sequence[tuple[Result, Points]]) -> str:
  """The paper's Figure 5: validation over training, from before the first step."""

  def paint(axes: Axes) -> None:
    for number, (_, points) in enumerate(drawn):
      steps, values = zip(*points, strict=True)
      axes.plot(steps, values, marker="o", markersize=3, **series(number))
    axes.set_xlabel("training step")
    axes.locator_params(axis="x", integer=True)
    axes.set_ylabel(f"{comparison.metric} on validation")
    last, longest = max(points[-1][0] for _, points in drawn), max(len(_short(result.title)) for result, _ in drawn)
    axes.set_xlim(-0.02 * last, last * (1.05 + min(1.0, longest * LETTER)))
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= last])
    _label(axes, [(*points[-1], _short(result.title)) for result, points in drawn], side=1)

  told = "; ".join(f"{r.title}: from {points[0][1]:.1f} to {points[-1][1]:.1f}" for r, points in drawn)
  return draw("curves", f"{comparison.metric} on validation over training", told, WIDE, paint)


def _places(results: Sequence[Result], measure: Measure) -> list[float]:
  """What each takes; recipes of which it is not known stand left of all."""
  values = [measure.of(result) for result in results]
  largest = max((value for value in values if value is not None), default=1.0) or 1.0
  return [
    UNMEASURED * largest * (1 + place / len(values)) if value is None else value for place, value in enumerate(values)
  ]


def _style(result: Result, near: Sequence[Result]) -> dict[str, Any]:
  """Filled where it is among the best, hollow where it is told from them; a triangle: it reads reasoning."""
  best = result in near or not near
  tone = colour("accent" if best else "soft")
  face = tone if best else colour("paper")
  return {"color": tone, "markerfacecolor": face, "fmt": ">" if result.reads_reasoning else "o"}


def _point(axes: Axes, x: float, y: float, ends: tuple[float, float], style: Mapping[str, Any]) -> None:
  axes.errorbar([x], [y], yerr=[[max(0.0, y - ends[0])], [max(0.0, ends[1] - y)]], elinewidth=1.3, capsize=2.5, **style)


def _scale(
  axes: Axes, results: Sequence[Result], measure: Measure, places: Sequence[float], *, small: bool = False
) -> None:
  known = [measure.of(result) is not None for result in results]
  if not any(known):
    axes.set_xticks([])
    axes.set_xlabel("" if small else f"{measure.name} were not measured")
    return
  span = max(places) or 1.0
  axes.set_xlim(-0.05 * span if all(known) else min(places) - 0.1 * span, 1.1 * span)
  if not all(known):
    axes.axvline(0, color=colour("soft"), linewidth=0.8, linestyle=":")
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= 1.05 * span])
  if small:
    axes.locator_params(axis="x", nbins=3)
  else:
    axes.set_xlabel(f"{measure.name} per 1,000 answers" + ("" if all(known) else "; left of 0: not known"))


def _short(title: str) -> str:
  return title if len(title) <= LONGEST else f"{title[: LONGEST - 1]}…"


def _label(axes: Axes, points: Sequence[tuple[float, float, str]], side: int = 0) -> None:
  """Names beside points, moved up where they would lie on one another.

  Args:
    side: 1 right, -1 left, 0 where there is more room.
  """
  (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
  unit, letter = (high - low) / (INNER * WIDE[1]), LETTER * (right - left)
  taken: list[tuple[float, float, float]] = []  # from, to, height
  for x, y, text in sorted(points, key=lambda point: point[1]):
    towards = side or (1 if x < (left + right) / 2 else -1)
    begin, end = sorted((x, x + towards * letter * len(text)))
    height = y
    for other_begin, other_end, other in sorted(taken, key=lambda one: one[2]):
      if begin < other_end and other_begin < end and abs(height - other) < LABEL_GAP * unit:
        height = other + LABEL_GAP * unit
    taken.append((begin, end, height))
    axes.annotate(
      text,
      (x, y),
      xytext=(towards * LABEL_OFFSET, (height - y) / unit),
      textcoords="offset points",
      ha="left" if towards > 0 else "right",
      va="center",
      fontsize="small",
      annotation_clip=False,
    )
