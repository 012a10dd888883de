"""Names in pictures: how long they may be, and where they stand beside points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from matplotlib.axes import Axes

WIDE, SMALL = (340.0, 265.0), (170.0, 130.0)
LONGEST = 30  # letters of a title in a picture; the table beside it has all
LABEL_GAP, LABEL_OFFSET = 11.0, 6.0  # SVG units between two labels, and from a point to its own
LETTER = 0.022  # the width of one, of that of the axes
INNER = 0.8  # of a picture's height, the part that the axes take


def short(title: str) -> str:
  return title if len(title) <= LONGEST else f"{title[: LONGEST - 1]}…"


def label(axes: Axes, points: Sequence[tuple[float, float, str]], side: int = 0) -> None:
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
