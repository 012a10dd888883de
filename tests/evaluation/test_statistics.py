"""Intervals and p-values: against scipy where it has them, by their properties, by what they call in simulations."""

import numpy as np
import pytest
from grouped import draw, layout
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fiat_jax.evaluation import metrics
from fiat_jax.evaluation.statistics import SEED_SCATTER, Scored, holm, interval, p_value, resample, standard_error


def paired(differences, groups=None, langs=None):
  """Two recipes that differ by so much on each row."""
  count = len(differences)
  rows = np.asarray(differences, float)[None]
  return Scored(
    scores={"a": 50 + rows / 2, "b": 50 - rows / 2},
    langs=langs or ["en"] * count,
    groups=groups or [f"row{n:04}" for n in range(count)],
  )


def test_macro_average_is_that_of_the_metrics():
  langs, values = ["hi", "bn", "hi", "sw"], [100.0, 0.0, 50.0, 30.0]
  scored = Scored(scores={"a": np.array([values])}, langs=langs, groups=["g"] * 4)
  expected = metrics.macro_average(metrics.by_language(langs, [{"m": value} for value in values]))["m"]
  assert scored.macro("a") == pytest.approx(expected)


@pytest.mark.parametrize("count", [6, 8, 12])
def test_p_value_is_scipys_exact_paired_permutation_test(count):
  differences = np.random.default_rng(count).integers(-2, 5, count) * 25.0
  mean = lambda values, axis: np.mean(values, axis=axis)  # noqa: E731
  exact = stats.permutation_test((differences,), mean, permutation_type="samples", n_resamples=np.inf)
  drawn = resample(paired(differences)).difference("a", "b")
  assert p_value(drawn) == pytest.approx(exact.pvalue)


def test_interval_is_where_scipys_test_begins_to_reject():
  differences = np.random.default_rng(0).normal(8, 20, 10)
  low, high = interval(resample(paired(differences)).difference("a", "b"))
  mean = lambda values, axis: np.mean(values, axis=axis)  # noqa: E731
  for shift, rejected in ((low - 0.01, True), (low + 0.01, False), (high - 0.01, False), (high + 0.01, True)):
    shifted = stats.permutation_test((differences - shift,), mean, permutation_type="samples", n_resamples=np.inf)
    assert (shifted.pvalue <= 0.05) == rejected


def test_many_ungrouped_rows_give_scipys_bootstrap_and_t_intervals():
  differences = np.random.default_rng(1).choice([-100.0, 0.0, 100.0], 600, p=[0.1, 0.75, 0.15])
  found = interval(resample(paired(differences)).difference("a", "b"))
  bootstrap = stats.bootstrap((differences,), np.mean, method="BCa", rng=np.random.default_rng(0))
  assert found == pytest.approx(tuple(bootstrap.confidence_interval), abs=0.35)
  assert found == pytest.approx(stats.ttest_1samp(differences, 0).confidence_interval(), abs=0.35)


def test_holm_by_hand():
  # sorted: 0.01 x 4 = 0.04; 0.02 x 3 = 0.06; 0.03 x 2 = 0.06; 0.04 x 1 = 0.04, kept at 0.06
  assert holm([0.02, 0.01, 0.04, 0.03]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
  assert holm([0.6, 0.7]) == [1.0, 1.0] and holm([]) == []


@pytest.mark.parametrize("groups", [1, 2, 5])
def test_fewer_than_six_groups_show_nothing(groups):
  langs, names = layout(groups, 8)
  drawn = resample(paired([100.0] * len(langs), names, langs)).difference("a", "b")
  assert interval(drawn) == (-np.inf, np.inf) and p_value(drawn) > 0.05


rows = st.lists(
  st.tuples(st.sampled_from([-100.0, -50.0, 0.0, 50.0, 100.0]), st.integers(0, 9), st.sampled_from("xyz")),
  min_size=8,
  max_size=40,
)


@given(rows, st.randoms(use_true_random=False), st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_an_interval_holds_the_estimate_and_nothing_depends_on_order_or_scale(rows, random, scale):
  def judge(rows, first="a", second="b", scale=1.0):
    differences, groups, langs = zip(*rows, strict=True)
    scored = paired(np.multiply(differences, scale), [f"g{g}" for g in groups], list(langs))
    drawn = resample(scored, 1200).difference(first, second)
    low, high = interval(drawn)
    assert low - 1e-6 <= scored.macro(first) - scored.macro(second) <= high + 1e-6
    return np.array([low, high]), p_value(drawn)

  ends, p = judge(rows)
  assert (p <= 0.05) == (not ends[0] <= 0 <= ends[1])
  shuffled = random.sample(rows, len(rows))
  swapped_ends, swapped_p = judge(shuffled, "b", "a")
  assert swapped_p == p and swapped_ends == pytest.approx(-ends[::-1])
  scaled_ends, scaled_p = judge(shuffled, scale=scale)
  assert scaled_p == p and scaled_ends == pytest.approx(scale * ends)


def test_a_recipes_draws_do_not_depend_on_the_others():
  langs, groups = layout(20, 2)
  both = draw(np.random.default_rng(0), langs, groups, seeds=3, seed_effect=(0.3, 0.3))
  alone = Scored(scores={"b": both.scores["b"]}, langs=langs, groups=groups)
  assert interval(resample(alone).score("b")) == interval(resample(both).score("b"))


def test_seeds_that_scatter_widen_the_interval():
  langs, groups = layout(40, 4)
  steady = np.tile(np.random.default_rng(0).integers(0, 2, 160) * 100.0, (3, 1))
  scattered = np.clip(steady + np.array([[-20.0], [0.0], [20.0]]), -20, 120)
  widths = []
  for scores in (steady, scattered):
    drawn = resample(Scored(scores={"a": scores, "b": steady}, langs=langs, groups=groups))
    low, high = interval(drawn.difference("a", "b"))
    widths.append(high - low)
  # three means of one run, 20 points apart: t with 2 degrees of freedom, 4.303 x 20 / sqrt(3)
  assert widths[0] == 0 and widths[1] == pytest.approx(2 * 4.303 * 20 / 3**0.5, rel=0.1)


def test_of_one_seed_a_scatter_is_assumed_of_what_is_tuned_alone():
  scores = {"a": np.full((1, 200), 50.0), "b": np.full((1, 200), 50.0), "untuned": np.full((1, 200), 50.0)}
  scored = Scored(scores=scores, langs=["en"] * 200, groups=[str(n) for n in range(200)], tuned=("a", "b"))
  drawn = resample(scored)
  assert interval(drawn.difference("a", "b"))[1] == pytest.approx(1.96 * 2**0.5 * SEED_SCATTER, rel=0.05)
  assert interval(drawn.difference("a", "untuned"))[1] == pytest.approx(1.96 * SEED_SCATTER, rel=0.05)


FALSE_CALLS = {  # of 300: 5 % is 15; a test of exactly 5 % stays below 24 in 99 of 100 simulations
  "12 passages": (12, 8, {}),
  "12 passages that decide all": (12, 8, {"own_passage": 1.5}),
  "40 passages": (40, 8, {}),
  "160 rows": (160, 1, {"own_passage": 0.0}),
  "three seeds": (12, 8, {"seeds": 3, "seed_effect": (0.3, 0.3)}),
  "two seeds of recipes that scatter unlike": (160, 1, {"seeds": 2, "seed_effect": (0.6, 0.0)}),
  "one seed, many rows": (1200, 1, {"seed_effect": (0.05, 0.05)}),  # about one point
}


@pytest.mark.parametrize("case", FALSE_CALLS)
@pytest.mark.slow
def test_equal_recipes_are_rarely_called_different(case):
  groups, langs, options = FALSE_CALLS[case]
  generator, calls = np.random.default_rng(0), 0
  for _ in range(300):
    scored = draw(generator, *layout(groups, langs), **options)
    calls += p_value(resample(scored, 2000).difference("a", "b")) <= 0.05
  assert calls < 24


def test_ten_thousand_replicates_of_two_thousand_rows_in_bounded_memory():
  import tracemalloc

  langs, groups = layout(2000, 1)
  scored = draw(np.random.default_rng(0), langs, groups)
  tracemalloc.start()
  drawn = resample(scored)
  assert tracemalloc.get_traced_memory()[1] < 100e6
  tracemalloc.stop()
  assert len(drawn.values["a"]) >= 10_000


def test_a_standard_error_is_that_of_the_mean_and_counts_a_group_once():
  values = [100.0, 0.0, 50.0, 100.0, 20.0]
  rows = [f"row{n}" for n in range(5)]
  assert standard_error(values, ["en"] * 5, rows) == pytest.approx(stats.sem(values))
  assert standard_error(values * 3, ["en"] * 15, rows * 3) == pytest.approx(stats.sem(values)), "copies add nothing"
  assert standard_error(values, ["en"] * 5, ["one"] * 5) is None


def test_a_standard_error_of_a_macro_average_weighs_languages():
  draw = np.random.default_rng(0)
  langs = ["bn"] * 20 + ["hi"] * 200
  spread = {"bn": 30.0, "hi": 10.0}
  found = [
    standard_error([draw.normal(50, spread[lang]) for lang in langs], langs, [f"row{n}" for n in range(220)])
    for _ in range(200)
  ]
  assert np.mean(found) == pytest.approx(np.sqrt(30**2 / 20 + 10**2 / 200) / 2, rel=0.05)
