"""What more rows would bring, from scores on fewer."""

import numpy as np
import pytest

from fiat_jax.evaluation import curve

GROUPS = [f"group {n // 2}" for n in range(60)]
LANGS = ["en", "hi"] * 30


def right(share: float) -> np.ndarray:
  """One seed's scores: the first rows right, [1, N]."""
  return 100.0 * (np.arange(60) < share * 60)[None]


def test_each_doubling_is_carried_on_to_four_hundred_rows_more():
  found = curve.judge({100: right(0.5), 200: right(0.6), 400: right(0.7)}, {100: 1, 200: 2, 400: 3}, LANGS, GROUPS)
  assert [point["rows"] for point in found["points"]] == [100, 200, 400]
  assert [point["test"] for point in found["points"]] == pytest.approx([50, 60, 70])
  assert found["more"]["rows"] == 400 and found["more"]["gain"] == pytest.approx(10), "400 more are a doubling of 400"
  low, high = found["more"]["interval"]
  assert -5 < low < 10 < high


def test_no_more_is_promised_than_the_metric_has_left():
  found = curve.judge({200: right(0.5), 400: right(0.9)}, {200: 1, 400: 2}, LANGS, GROUPS)["more"]
  low, high = found["interval"]
  assert found["gain"] == high == pytest.approx(10) and low <= 10
  fallen = curve.judge({200: right(0.5), 400: right(0.1)}, {200: 1, 400: 2}, LANGS, GROUPS)["more"]
  assert fallen["gain"] == fallen["interval"][0] == pytest.approx(-10)


def test_a_small_step_is_not_carried_on_far():
  found = curve.judge({95: right(0.5), 100: right(0.55)}, {95: 1, 100: 2}, LANGS, GROUPS)
  assert found["more"] == {"rows": 400, "gain": None, "interval": None} and len(found["points"]) == 2


def test_where_nothing_was_gained_the_interval_is_that_of_seeds():
  found = curve.judge({50: right(0.5), 100: right(0.5)}, {50: 1, 100: 1}, LANGS, GROUPS)
  scatter = 1.96 * 2**0.5 * np.log2(1 + 400 / 100)  # 1 point a seed, carried on over so many doublings
  assert found["more"]["gain"] == 0 and found["more"]["interval"] == pytest.approx((-scatter, scatter), rel=0.05)


def test_recipes_are_set_against_one_another_on_each_number_of_rows():
  better, worse = right(0.9), right(0.4)
  found = curve.between({400: {"a": better, "b": better}, 100: {"a": better, "b": worse}}, LANGS, GROUPS)
  assert [(pair["rows"], pair["first"], pair["second"]) for pair in found] == [(100, "a", "b"), (400, "a", "b")]
  assert found[0]["difference"] == pytest.approx(50) and found[0]["p"] < 0.01 and found[0]["interval"][0] > 0
  assert found[1]["difference"] == 0 and found[1]["p"] > 0.9
