"""Names in pictures stand beside their points, and cover neither other points nor one another."""

import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from fiat_jax.report.drawing import FONT, POINTS
from fiat_jax.report.labels import WIDE, label

MARK = 2.5  # half of a point's size, in SVG units
BESIDE = [(104.5, 22.4, "LoRA alone"), (124.1, 23.1, "fine-tuning"), (152.7, 21.1, "full fine-tuning")]
ALIKE = [(100.0, 50.0, "one recipe"), (100.5, 50.1, "another recipe"), (101.0, 49.9, "a third"), (0.0, 90.0, "cheap")]


@pytest.mark.parametrize("points", [BESIDE, ALIKE], ids=["beside", "alike"])
def test_names_cover_neither_points_nor_one_another(points):
  figure = Figure(figsize=(WIDE[0] / POINTS, WIDE[1] / POINTS), layout="constrained")
  canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
  axes.plot([x for x, _, _ in points], [y for _, y, _ in points], "o")
  axes.set_xlim(-5, 170)
  axes.set_ylim(15, 95)
  label(axes, points)
  for text in axes.texts:
    text.set_fontsize(0.8 * FONT)
  canvas.draw()
  boxes = {text.get_text(): Text.get_window_extent(text) for text in axes.texts}  # without its line
  assert set(boxes) == {text for _, _, text in points}
  for one, other in itertools.combinations(boxes.values(), 2):
    assert not one.overlaps(other)
  for x, y, _ in points:
    mark = Bbox.from_bounds(*axes.transData.transform((x, y)), 0, 0).padded(MARK * figure.dpi / POINTS)
    assert not any(box.overlaps(mark) for box in boxes.values())
