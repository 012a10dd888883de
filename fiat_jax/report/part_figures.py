"""Pictures of what parts bring: every switch, reasoning by language, reasoning that is read or learned to be written,
instructions for either kind of model."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fiat_jax.evaluation.statistics import ERROR
from fiat_jax.report.ablation import Part, Uses
from fiat_jax.report.drawing import colour, draw
from fiat_jax.report.labels import WIDE, label, short
from fiat_jax.report.languages import Gains
from fiat_jax.report.results import Comparison

if TYPE_CHECKING:
  from matplotlib.axes import Axes


ACROSS = 56  # letters of a name beside its bar
KINDS_OF_MODEL = ("instruction-tuned", "base")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bar:
  """A value with the ends of its interval; `strong`: it is shown to differ from what it is set against."""

  called: str
  value: float
  ends: Sequence[float]
  strong: bool


def parts(comparison: Comparison, found: Sequence[Part], sure: str) -> str:
  """What each switch brings, with its interval (the paper's Figures 4 and 6, and Table 3 one at a time)."""
  pairs = [(part, pair) for part in found if (pair := comparison.pair(part.more, part.less))]
  bars = [
    Bar(
      called=f"{part.called}: {part.more.title} − {part.less.title}",
      value=pair["difference"],
      ends=pair["interval"],
      strong=pair["p"] <= ERROR,
    )
    for part, pair in pairs
  ]
  told = "; ".join(f"{part.called}: {pair['difference']:+z.1f} points" for part, pair in pairs)
  axis = f"gain in {comparison.metric}, points"
  return _bars("parts", "What each part brings", f"With {sure}. {told}", axis, bars, zero=True)


def uses(comparison: Comparison, found: Uses, sure: str) -> str:
  """The paper's Figure 4: reasoning that is read, and reasoning that is learned to be written."""
  bars = []
  for called, result in found.ways:
    pair = comparison.pair(result, found.without)
    strong = bool(pair and pair["p"] <= ERROR)
    score = result.test["overall"][comparison.metric]
    bars.append(Bar(called=f"{called}: {short(result.title)}", value=score, ends=result.interval, strong=strong))
  told = "; ".join(f"{bar.called}: {bar.value:.1f}" for bar in bars)
  title = "The big model's reasoning, read or learned to be written"
  return _bars(f"uses-{found.written.name}", title, f"With {sure}. {told}", f"{comparison.metric} on test", bars)


def instructed(comparison: Comparison, found: tuple[Part, Part], sure: str) -> str:
  """The paper's Figure 6: what the instruction brings either kind of model."""
  bars = []
  for called, part in zip(KINDS_OF_MODEL, found, strict=True):
    pair = comparison.pair(part.more, part.less)
    if pair:
      strong = pair["p"] <= ERROR
      name = f"{called}: {short(part.more.title)}"
      bars.append(Bar(called=name, value=pair["difference"], ends=pair["interval"], strong=strong))
  told = "; ".join(f"{bar.called}: {bar.value:+z.1f} points" for bar in bars)
  axis = f"gain in {comparison.metric} from the instruction, points"
  name = f"instructed-{found[0].more.name}"
  return _bars(name, "What the instruction brings", f"With {sure}. {told}", axis, bars, zero=True)


def _bars(name: str, title: str, told: str, axis: str, bars: Sequence[Bar], *, zero: bool = False) -> str:
  """A row each: a value with its interval, its name above; `zero`: a line where nothing is gained."""
  names = [textwrap.fill(bar.called, ACROSS) for bar in bars]
  lines = max(name.count("\n") + 1 for name in names)

  def paint(axes: Axes) -> None:
    if zero:
      axes.axvline(0, color=colour("soft"), linewidth=1)
    for row, (bar, name) in enumerate(zip(reversed(bars), reversed(names), strict=True)):
      tone = colour("accent" if bar.strong else "soft")
      axes.plot(bar.ends, [row, row], color=tone, linewidth=2)
      axes.plot([bar.value], [row], "o", color=tone)
      axes.text(0.01, row + 0.2, name, transform=axes.get_yaxis_transform(), fontsize="small").set_in_layout(False)
    axes.set_yticks([])
    axes.set_ylim(-0.4, len(bars) - 0.1)
    axes.set_xlabel(axis)
    axes.grid(visible=False, axis="y")

  return draw(name, title, told, (WIDE[0], 60.0 + (20 + 12 * lines) * len(bars)), paint)


def gains(found: Gains, metric: str) -> str:
  """The paper's Figure 3: the gain by language against the score without."""

  def paint(axes: Axes) -> None:
    axes.axhline(0, color=colour("soft"), linewidth=1)
    for less, gain in found.points.values():
      axes.plot([less], [gain], "o", color=colour("accent"))
    axes.set_xlabel(f"{metric} of {found.less.title}")
    axes.set_ylabel("gain, points")
    label(axes, [(less, gain, lang) for lang, (less, gain) in found.points.items()])

  told = "; ".join(f"{lang}: {gain:+z.1f} from {less:.1f}" for lang, (less, gain) in found.points.items())
  name = f"gains-{found.more.name}-{found.less.name}"
  return draw(name, f"Gain of {found.more.title} over {found.less.title} by language", told, WIDE, paint)
