"""The loss picture: well-formed, every point in its place, readable on light and dark."""

import xml.etree.ElementTree

from fiat_jax.training.picture import GAP, HEIGHT, LEFT, WIDTH, loss_picture

RECORDS = [
  {"step": 0, "validation": {"f1": 10.0}},
  {"step": 1, "loss": 4.0},
  {"step": 2, "loss": 3.0},
  {"step": 4, "loss": 2.0},
  {"step": 4, "validation": {"f1": 30.0}},
]


def lines(picture):
  root = xml.etree.ElementTree.fromstring(picture)
  found = [element.get("points", "") for element in root if element.tag.endswith("polyline")]
  return [[tuple(map(float, point.split(","))) for point in line.split()] for line in found]


def test_every_value_stands_at_its_step_and_height():
  loss, score = lines(loss_picture(RECORDS, "f1"))
  assert loss == [(LEFT + WIDTH / 4, GAP), (LEFT + WIDTH / 2, GAP + HEIGHT / 2), (LEFT + WIDTH, GAP + HEIGHT)]
  top = HEIGHT + 2 * GAP
  assert score == [(LEFT, top + HEIGHT), (LEFT + WIDTH, top)]


def test_it_says_the_last_values_and_has_colours_for_dark_pages():
  picture = loss_picture(RECORDS, "f1")
  assert "training loss, nats a target token: 2 at step 4" in picture and "validation f1: 30 at step 4" in picture
  assert "prefers-color-scheme: dark" in picture


def test_one_point_none_and_equal_ones_are_pictures_too():
  for records in (RECORDS[:1], RECORDS[:2], [], [{"step": n, "loss": 1.0} for n in (1, 2)]):
    assert len(lines(loss_picture(records, "f1"))) == 2
