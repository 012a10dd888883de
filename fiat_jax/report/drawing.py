"""Pictures as SVG that stands in a page: drawn by matplotlib without its global state, coloured by the page.

A picture is drawn in colours that stand for names (`colour`), which become the page's CSS variables; so it follows the
page from light to dark. Text stays text, in the page's font.
"""

from __future__ import annotations

import html
import io
import logging
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from matplotlib.axes import Axes

SERIES = 8  # colours told apart by the colour-blind, `--series-0` … in page.css; beyond them dashes tell
NAMES = ("ink", "soft", "grid", "paper", "band", "accent", *(f"series-{n}" for n in range(SERIES)))
DASHES: Sequence[Any] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)))
POINTS = 72  # SVG units an inch
FONT, WIDEST = 10.0, 1.5  # of text in SVG units, which the page shows at most so many times larger


def colour(name: str) -> str:
  """What stands for a colour of the page while drawing."""
  return f"#0a0b{NAMES.index(name) + 16:02x}"


def series(number: int) -> dict[str, Any]:
  """Colour and dashes of the n-th line of a picture."""
  return {"color": colour(f"series-{number % SERIES}"), "linestyle": DASHES[number // SERIES % len(DASHES)]}


def draw(name: str, title: str, description: str, size: tuple[float, float], paint: Callable[[Axes], None]) -> str:
  """The SVG element of a picture.

  Args:
    name: its id in the page, and the beginning of the ids in it.
    title, description: what a screen reader says of it.
    size: width and height in SVG units; on a wide page `WIDEST` times as many pixels.
    paint: draws on the axes.
  """
  import matplotlib
  from matplotlib.figure import Figure

  logging.getLogger("matplotlib").setLevel(logging.ERROR)
  with matplotlib.rc_context(_settings(name)), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # letters that its own font lacks: the page's fonts have them
    figure = Figure(figsize=(size[0] / POINTS, size[1] / POINTS), layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    paint(axes)
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
  return _in_page(written.getvalue(), name, title, description, size)


def _settings(name: str) -> dict[Any, Any]:
  """matplotlib's, for one picture."""
  ink, soft = colour("ink"), colour("soft")
  return {
    "svg.fonttype": "none",
    "svg.hashsalt": name,  # the same ids each time
    "text.parse_math": False,  # a $ in a title is a $
    "font.size": FONT,
    "axes.edgecolor": soft,
    "axes.labelcolor": ink,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": colour("grid"),
    "text.color": ink,
    "xtick.color": soft,
    "ytick.color": soft,
    "xtick.labelcolor": ink,
    "ytick.labelcolor": ink,
  }


def _in_page(svg: str, name: str, title: str, description: str, size: tuple[float, float]) -> str:
  body = svg[svg.index(">", svg.index("<svg")) + 1 :]
  body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
  body = re.sub(r'(<[\w:]+\b[^<>]*?\sid=")', rf"\g<1>{name}-", body)
  body = re.sub(r"(url\(|xlink:href=\")#", rf"\g<1>#{name}-", body).replace("xlink:href", "href")
  body = re.sub(r"(<text\b[^>]*?style=\")([^\"]*)", _with_page_font, body)
  for known in NAMES:
    body = body.replace(colour(known), f"var(--{known})")
  told = (
    f'<title id="{name}-title">{html.escape(title)}</title><desc id="{name}-desc">{html.escape(description)}</desc>'
  )
  return (
    f'<svg id="{name}" role="img" aria-labelledby="{name}-title {name}-desc" viewBox="0 0 {size[0]:g} {size[1]:g}" '
    f'style="max-width: {size[0] * WIDEST:.0f}px">{told}{body}'
  ).strip()


def _with_page_font(match: re.Match[str]) -> str:
  """The text's style without a font family; the size stays."""
  style = re.sub(r"\bfont:\s*([\d.]+px)[^;]*", r"font-size: \1", match[2])
  return match[1] + re.sub(r"font-family:[^;]*;?\s*", "", style)
