"""What a test set can show: the distributions against scipy, the announcements against simulated runs."""

import math

import numpy as np
import pytest
from grouped import draw, layout
from scipy import stats

from fiat_jax.evaluation import power
from fiat_jax.evaluation.power import Precision
from fiat_jax.evaluation.statistics import resample
from fiat_jax.evaluation.verdict import Candidate, decide
from fiat_jax.recipe import Recipe


@pytest.mark.parametrize("freedom", [5, 11, 39, 500])
@pytest.mark.parametrize("ratio", [0.5, 2.0, 3.0, 4.5])
def test_power_is_that_of_the_noncentral_distribution(freedom, ratio):
  exact = stats.nct.sf(stats.t.ppf(0.975, freedom), freedom, ratio)
  assert Precision(error=2.0, freedom=freedom, groups=freedom + 1).power(2 * ratio) == pytest.approx(exact, abs=0.02)


def test_the_detectable_difference_has_the_power_asked_for_and_more_rows_show_less():
  precision = power.planned(*layout(12, 8))
  assert precision.power(precision.detectable(0.9)) == pytest.approx(0.9)
  needed = precision.rows_for(5, 96)
  assert needed is not None and needed > 96
  assert power.planned(*layout(round(needed / 8), 8)).detectable() == pytest.approx(5, rel=0.03)


def test_160_rows_with_a_fifth_discordant_have_a_half_width_of_7_points():
  precision = power.planned(["en"] * 160, [str(n) for n in range(160)])
  assert 1.96 * precision.error == pytest.approx(7, abs=0.1)
  assert precision.error == pytest.approx(100 * math.sqrt(0.2 / 160))


def test_rows_that_go_together_show_less():
  langs, groups = layout(12, 8)
  apart, alike = (power.planned(langs, groups, within=within).error for within in (0.0, 1.0))
  assert alike == pytest.approx(apart * math.sqrt(8))


def test_few_groups_show_nothing():
  few = power.planned(*layout(5, 8))
  assert few.detectable() == math.inf and few.power(100) == 0 and (few.rows_for(5, 40) or 0) > 40


@pytest.mark.parametrize("groups", [12, 40])
@pytest.mark.parametrize("own_passage", [0.0, 0.6])
@pytest.mark.slow
def test_a_planted_gain_of_ten_points_is_found_at_the_power_announced(groups, own_passage):
  many = draw(np.random.default_rng(1), *layout(2000, 8), gain=10, own_passage=own_passage)
  differences = (many.scores["a"] - many.scores["b"]).reshape(-1, 8) / 100
  discordance = np.square(differences).mean()
  within = (np.var(differences.mean(axis=1)) * 8 / np.var(differences) - 1) / 7
  announced = power.planned(*layout(groups, 8), discordance=discordance, within=within).power(10)
  generator, found = np.random.default_rng(0), []
  for _ in range(400):
    drawn = resample(draw(generator, *layout(groups, 8), gain=10, own_passage=own_passage), 4096)
    recipes = [Candidate(name=name, recipe=Recipe(), validation=float(name == "a")) for name in "ab"]
    verdict = decide(recipes, drawn, "accuracy")
    found.append(verdict.outcome == "clear" and verdict.recipe == "a")
  assert np.mean(found) == pytest.approx(announced, abs=0.07)
  if own_passage:  # these recipes differ as much as is presumed before any work, so that this is told of them
    assert np.mean(found) == pytest.approx(power.planned(*layout(groups, 8)).power(10), abs=0.07)
