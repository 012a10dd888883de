"""Names in pictures: how long they may be, and where they stand beside points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from fiat_jax.report.drawing import colour

if TYPE_CHECKING:
  from matplotlib.axes import Axes

WIDE, SMALL = (340.0, 265.0), (170.0, 130.0)
LONGEST = 30  # letters of a title in a picture; the table beside it has all
LABEL_GAP, LABEL_OFFSET = 11.0, 6.0  # SVG units between two labels, and from a point to its own
POINT = 9.0  # how near in height a label may not come to a point that it would cover
STEPS = (0, 1, -1, 2, -2, 3, -3, 4, 5, 6, 7, 8)  # labels up or down, tried one after another
LETTER = 0.022  # the width of one, of that of the axes
INNER = 0.8  # of a picture's height, the part that the axes take


def short(title: str) -> str:
  return title if len(title) <= LONGEST else f"{title[: LONGEST - 1]}…"


class Box(NamedTuple):
  """Where a name would stand, in the axes' own units: from `begin` to `end`, its middle at `height`."""

  towards: int  # 1: right of its point, -1: left
  begin: float
  end: float
  height: float


def label(
  axes: Axes, points: Sequence[tuple[float, float, str]], side: int = 0, size: tuple[float, float] = WIDE
) -> None:
  """Names beside points, moved where they would lie on one another or on a point; a line leads to what moved far.

  Args:
    side: 1 right, -1 left, 0 where there is room, rather towards the middle.
    size: of the picture.
  """
  (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
  unit, letter = (high - low) / (INNER * size[1]), LETTER * WIDE[0] / size[0] * (right - left)
  taken: list[Box] = []

  def free(box: Box) -> bool:
    inside = bool(side) or (left <= box.begin and box.end <= right)
    on_point = any(box.begin < x < box.end and abs(box.height - y) < POINT * unit for x, y, _ in points)
    on_name = any(
      box.begin < other.end and other.begin < box.end and abs(box.height - other.height) < LABEL_GAP * unit
      for other in taken
    )
    return inside and not on_point and not on_name

  for x, y, text in sorted(points, key=lambda point: point[1]):
    middle = 1 if x < (left + right) / 2 else -1
    length = letter * len(text)
    boxes = [
      Box(towards, min(x, x + towards * length), max(x, x + towards * length), y + step * LABEL_GAP * unit)
      for step in STEPS
      for towards in ((side,) if side else (middle, -middle))
    ]
    box = next(filter(free, boxes), boxes[0])
    taken.append(box)
    moved = abs(box.height - y) > LABEL_GAP * unit
    axes.annotate(
      text,
      (x, y),
      xytext=(box.towards * LABEL_OFFSET, (box.height - y) / unit),
      textcoords="offset points",
      ha="left" if box.towards > 0 else "right",
      va="center",
      fontsize="small",
      annotation_clip=False,
      arrowprops={"arrowstyle": "-", "color": colour("soft"), "linewidth": 0.6, "shrinkB": 3} if moved else None,
    )
