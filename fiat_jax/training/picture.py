"""The loss picture: training loss and validation metric by step, as an SVG that light and dark pages can show."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

WIDTH, HEIGHT, LEFT, GAP = 720, 180, 64, 44  # of a panel, and the margins beside and between, in pixels
STYLE = """
  text { font: 12px sans-serif; fill: #444 } .axis { stroke: #999; fill: none }
  .loss { stroke: #1f6fb4 } .metric { stroke: #c2560a } .line { fill: none; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    text { fill: #ccc } .axis { stroke: #666 } .loss { stroke: #6db3f2 } .metric { stroke: #f5a55a }
  }
"""

Points = Sequence[tuple[int, float]]


def loss_picture(records: Sequence[dict[str, Any]], metric: str) -> str:
  """The picture of `metrics.jsonl`'s records."""
  losses = [(r["step"], r["loss"]) for r in records if "loss" in r]
  scores = [(r["step"], r["validation"][metric]) for r in records if "validation" in r]
  last = max([step for step, _ in (*losses, *scores)], default=0)
  panels = [
    _panel(losses, last, GAP, "loss", "training loss, nats a target token"),
    _panel(scores, last, HEIGHT + 2 * GAP, "metric", f"validation {html.escape(metric)}"),
  ]
  size = f'viewBox="0 0 {WIDTH + LEFT + GAP} {2 * HEIGHT + 3 * GAP}"'
  return f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{STYLE}</style>{"".join(panels)}</svg>\n'


def _panel(points: Points, last: int, top: int, name: str, title: str) -> str:
  values = [value for _, value in points] or [0.0]
  low, high = min(values), max(values)
  span = (high - low) or 1.0
  bottom = top + HEIGHT
  places = [(LEFT + WIDTH * step / (last or 1), bottom - HEIGHT * (value - low) / span) for step, value in points]
  line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
  dots = "".join(f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="2"/>' for x, y in places[-1:])
  return (
    f'<text x="{LEFT}" y="{top - 8}">{title}: {values[-1]:.4g} at step {points[-1][0] if points else 0}</text>'
    f'<path class="axis" d="M{LEFT} {top}V{bottom}H{LEFT + WIDTH}"/>'
    f'<text x="{LEFT - 8}" y="{top + 10}" text-anchor="end">{high:.4g}</text>'
    f'<text x="{LEFT - 8}" y="{bottom}" text-anchor="end">{low:.4g}</text>'
    f'<text x="{LEFT}" y="{bottom + 16}">0</text>'
    f'<text x="{LEFT + WIDTH}" y="{bottom + 16}" text-anchor="end">{last} steps</text>'
    f'<polyline class="line {name}" points="{line}"/>{dots}'
  )
