"""The page's first picture, a point a recipe, and the same for each language. Each picture has a table beside it, which
says the same in numbers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fiat_jax.report.drawing import colour, draw
from fiat_jax.report.labels import SMALL, WIDE, label, short
from fiat_jax.report.languages import LanguageScore
from fiat_jax.report.results import Comparison, Result
from fiat_jax.report.standing import above, alike

if TYPE_CHECKING:
  from matplotlib.axes import Axes


@dataclasses.dataclass(frozen=True)
class Measure:
  """What an answer takes, per 1,000: `of` gives it for a recipe, None where it is not known."""

  name: str
  of: Callable[[Result], float | None]


MONEY, SECONDS = Measure("money", lambda result: result.money), Measure("seconds", lambda result: result.seconds)
MARK, LARGE = 6.0, 1.5  # a point's size in SVG units; how much larger is one that test puts above the pick
UNMEASURED, BORDER = 1.16, 1.08  # of the largest measure: where recipes stand of which it is not known, behind a line


def measures(comparison: Comparison) -> list[Measure]:
  """Money where some recipe's is known to cost any, and seconds; these alone stand there where nothing was measured."""
  return [MONEY] * any(result.money for result in comparison.results) + [SECONDS]


def first(comparison: Comparison, measure: Measure, sure: str) -> str:
  """Score with its interval against what an answer takes, a point a recipe, and the band of the best."""
  near, higher, metric = alike(comparison), above(comparison), comparison.metric
  scores = {result.name: result.test["overall"][metric] for result in comparison.results}

  def paint(axes: Axes) -> None:
    places = _places(comparison.results, measure)
    _band(axes, [scores[result.name] for result in near], higher)
    for result, x in zip(comparison.results, places, strict=True):
      _point(axes, x, scores[result.name], result.interval, _style(result, near, higher))
    _scale(axes, comparison.results, measure, places)
    axes.set_ylabel(f"{metric} on test")
    label(axes, [(x, scores[r.name], short(r.title)) for x, r in zip(places, comparison.results, strict=True)])

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
  near, higher, places = alike(comparison), above(comparison), _places(comparison.results, measure)
  shown = [of for scores in found.values() for of in scores.values()]
  ends = [end for of in shown for end in (of.interval or (of.score, of.score))]
  pictures = []
  for place, (lang, scores) in enumerate(found.items()):

    def paint(axes: Axes, scores: Mapping[str, LanguageScore] = scores) -> None:
      _band(axes, [scores[result.name].score for result in near], higher)
      for result, x in zip(comparison.results, places, strict=True):
        of = scores[result.name]
        _point(axes, x, of.score, of.interval or (of.score, of.score), _style(result, near, higher))
      _scale(axes, comparison.results, measure, places, small=True)
      axes.set_ylim(min(ends) - 4, max(ends) + 4)
      numbered = enumerate(zip(comparison.results, places, strict=True), 1)
      label(axes, [(x, scores[result.name].score, str(n)) for n, (result, x) in numbered], size=SMALL)

    told = "; ".join(f"{result.title}: {scores[result.name].score:.1f}" for result in comparison.results)
    pictures.append((lang, draw(f"language-{place}", f"{comparison.metric}, {lang}", told, SMALL, paint)))
  return pictures


def key(comparison: Comparison) -> str:
  """Which recipe each number in the small pictures is."""
  return ", ".join(f"{number} {result.title}" for number, result in enumerate(comparison.results, 1))


def _band(axes: Axes, best: Sequence[float], higher: Sequence[Result]) -> None:
  """Over the scores of the best and what is not told from it; none where test puts others above them."""
  if best and not higher:
    axes.axhspan(min(best) - 0.6, max(best) + 0.6, color=colour("band"), alpha=0.35, linewidth=0)


def _places(results: Sequence[Result], measure: Measure) -> list[float]:
  """What each takes; recipes of which it is not known stand right of all: it is not said to be little."""
  values = [measure.of(result) for result in results]
  largest = max((value for value in values if value is not None), default=1.0) or 1.0
  return [
    (UNMEASURED + 0.1 * place / len(values)) * largest if value is None else value for place, value in enumerate(values)
  ]


def _style(result: Result, near: Sequence[Result], higher: Sequence[Result]) -> dict[str, Any]:
  """Filled where it is among the best, large where test puts it above the pick, hollow where below; a triangle: it
  reads reasoning."""
  best = result in near or result in higher or not near
  tone = colour("ink" if result in higher else "accent" if best else "soft")
  face, size = tone if best else colour("paper"), LARGE if result in higher else 1.0
  shape = ">" if result.reads_reasoning else "o"
  return {"color": tone, "markerfacecolor": face, "fmt": shape, "markersize": size * MARK}


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
  axes.set_xlim(-0.05 * span, 1.1 * span)
  if not all(known):
    largest = max(place for place, measured in zip(places, known, strict=True) if measured) or 1.0
    axes.axvline(BORDER * largest, color=colour("soft"), linewidth=0.8, linestyle=":")
    axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= largest])
  if small:
    axes.locator_params(axis="x", nbins=3)
  else:
    axes.set_xlabel(f"{measure.name} per 1,000 answers" + ("" if all(known) else "; right of the line: not known"))
