"""The verdict's rule on drawn predictions: what is picked, what is called clear, what is cheapest."""

import dataclasses

import numpy as np
import pytest
from grouped import draw, layout

from fiat_jax.evaluation import report
from fiat_jax.evaluation.statistics import Scored, resample
from fiat_jax.evaluation.verdict import MARGIN, RULE, Candidate, decide, score_interval
from fiat_jax.recipe import Recipe

TUNED = Recipe(title="fine-tuning")
UNTUNED = Recipe(adapter="none", title="untuned")
FIAT = Recipe(reasoning=True, title="FIAT")
BASE = Recipe(adapter="full", instruction_tuned=False, title="full fine-tuning, base model")
BETA = Recipe(adapter="none", answer_of_beta=True, title="beta alone")
COPYING = Recipe(reasoning=True, reasoning_form="answer", title="copying beta")
ROWS = 400


def right(share, start=0.0):
  """400 rows, this share of them right, in a run that begins at `start`."""
  scores = np.zeros(ROWS)
  scores[np.arange(int(start * ROWS), int((start + share) * ROWS)) % ROWS] = 100
  return scores[None]


def judge(scores, rows=ROWS, groups=None, **recipes):
  """`recipes`: the recipe and its validation score by name; `scores`: on test by name."""
  candidates = [Candidate(name=name, recipe=recipe, validation=v) for name, (recipe, v) in recipes.items()]
  groups = groups or [f"row{n}" for n in range(rows)]
  return decide(candidates, resample(Scored(scores=scores, langs=["en"] * rows, groups=groups)), "exact_match")


def test_the_pick_that_beats_all_is_clear():
  scores = {"fiat": right(0.8), "tuned": right(0.6), "beta": right(0.7)}
  found = judge(scores, fiat=(FIAT, 81.0), tuned=(TUNED, 60.0), beta=(BETA, 70.0))
  assert (found.recipe, found.outcome, found.pick, found.against) == ("fiat", "clear", "fiat", "beta")
  assert found.difference == pytest.approx(10) and 0 < found.interval[0] < 10 < found.interval[1] and found.p <= 0.05
  assert found.words.startswith("Use FIAT. ") and "beta alone, the closest" in found.words
  assert [(pair.first, pair.second) for pair in found.pairs] == [("fiat", "tuned"), ("fiat", "beta"), ("tuned", "beta")]


def test_of_recipes_that_cannot_be_told_apart_the_cheapest_is_used():
  scores = {"fiat": right(0.8), "tuned": right(0.8, start=0.01), "beta": right(0.5)}
  found = judge(scores, fiat=(FIAT, 81.0), tuned=(TUNED, 79.0), beta=(BETA, 50.0))
  assert (found.recipe, found.outcome, found.pick, found.against) == ("tuned", "indistinguishable", "fiat", "tuned")
  assert found.words.startswith("Use fine-tuning. FIAT was best on validation") and "cheaper" in found.words


def test_of_those_the_cheapest_is_not_used_where_another_is_above_it():
  """As the pick is told apart from neither, though they are from each other."""
  scores = {"fiat": right(0.27, start=0.5), "tuned": right(0.28), "untuned": right(0.24)}
  found = judge(scores, fiat=(FIAT, 40.0), tuned=(TUNED, 30.0), untuned=(UNTUNED, 29.0))
  shown = {(pair.first, pair.second): pair.shown for pair in found.pairs}
  assert shown == {("fiat", "tuned"): False, ("fiat", "untuned"): False, ("tuned", "untuned"): True}
  assert (found.outcome, found.recipe) == ("indistinguishable", "tuned")


def test_what_is_too_little_is_said_of_the_pair_that_is_open_the_furthest():
  scores = {"fiat": right(0.5), "near": right(0.5, start=0.01), "far": right(0.44, start=0.5)}
  found = judge(scores, fiat=(FIAT, 60.0), near=(TUNED, 50.0), far=(TUNED, 50.0))
  reach = {pair.second: max(map(abs, pair.interval)) for pair in found.pairs[:2]}
  assert reach["near"] < MARGIN < reach["far"]
  assert (found.outcome, found.against) == ("too little data", "far") and "takes about" in found.words


@pytest.mark.parametrize(
  ("cheap", "dear"),
  [(UNTUNED, TUNED), (TUNED, FIAT), (TUNED, BETA), (UNTUNED, BETA), (BETA, FIAT)],
  ids=lambda recipe: recipe.title,
)
def test_the_order_of_cost(cheap, dear):
  same = {"dear": right(0.5), "cheap": right(0.5)}
  assert judge(same, dear=(dear, 60.0), cheap=(cheap, 50.0)).recipe == "cheap"


@pytest.mark.parametrize(("fiat", "copying", "used"), [(60.0, 50.0, "fiat"), (50.0, 60.0, "copying")])
def test_recipes_that_read_what_the_big_model_wrote_cost_the_same(fiat, copying, used):
  found = judge({"fiat": right(0.5), "copying": right(0.5)}, fiat=(FIAT, fiat), copying=(COPYING, copying))
  assert (found.recipe, found.outcome) == (used, "indistinguishable")


@pytest.mark.parametrize(("tuned", "base", "used"), [(60.0, 50.0, "tuned"), (50.0, 60.0, "base")])
def test_recipes_of_either_model_cost_the_same(tuned, base, used):
  found = judge({"tuned": right(0.5), "base": right(0.5)}, tuned=(TUNED, tuned), base=(BASE, base))
  assert (found.recipe, found.outcome) == (used, "indistinguishable")


def measured(cheap, dear):
  """The verdict over two recipes that score the same, of which the dear one is better on validation."""
  made = [Candidate(name=name, validation=v, **of) for name, v, of in (("cheap", 50.0, cheap), ("dear", 60.0, dear))]
  names, scores = [f"row{n}" for n in range(ROWS)], {"cheap": right(0.5), "dear": right(0.5)}
  return decide(made, resample(Scored(scores=scores, langs=["en"] * ROWS, groups=names)), "exact_match")


ASKED = Recipe(adapter="none", in_context="beta", thinks=True, title="beta, CoT")
VOTES = Recipe(adapter="none", in_context="beta", thinks=True, votes=True, title="self-consistency")
AT_HOME = Recipe(adapter="none", in_context="model", title="untuned in context")


@pytest.mark.parametrize(
  ("cheap", "dear"),
  [
    ({"recipe": ASKED, "money": 1.0, "seconds": 900.0}, {"recipe": VOTES, "money": 5.0, "seconds": 300.0}),
    ({"recipe": ASKED, "seconds": 900.0}, {"recipe": VOTES, "seconds": 4500.0}),
    ({"recipe": TUNED, "seconds": 30.0}, {"recipe": AT_HOME, "seconds": 300.0}),
    ({"recipe": TUNED, "seconds": 500.0}, {"recipe": FIAT, "money": 1.0, "seconds": 30.0, "beta_seconds": 5.0}),
  ],
  ids=["money", "seconds", "seconds before what is needed", "money before seconds"],
)
def test_what_was_measured_says_what_is_cheaper(cheap, dear):
  found = measured(cheap, dear)
  assert (found.recipe, found.outcome) == ("cheap", "indistinguishable") and "is cheaper" in found.words


@pytest.mark.parametrize(
  ("cheap", "dear"),
  [
    ({"recipe": ASKED, "seconds": 100.0}, {"recipe": ASKED, "seconds": 110.0}),
    ({"recipe": FIAT, "seconds": 10.0}, {"recipe": BETA, "seconds": 900.0, "beta_seconds": 900.0}),
    ({"recipe": ASKED, "money": 1.0}, {"recipe": VOTES}),
  ],
  ids=["what a machine's other work does", "the big model's seconds are missing", "one price is not known"],
)
def test_what_cannot_be_compared_is_no_cost(cheap, dear):
  assert measured(cheap, dear).recipe == "dear"


@pytest.mark.parametrize(
  ("of", "told"),
  [
    ({"recipe": TUNED, "seconds": 31.2}, "no money and 31 seconds."),
    ({"recipe": FIAT, "money": 2.5, "seconds": 931.0, "beta_seconds": 900.0},
     "2.5 in money for the big model and 931 seconds (900 of them the big model's)."),
    ({"recipe": FIAT, "seconds": 31.0},
     "1,000 of the big model (at a price not known here) and 31 seconds of the tuned model (the big one's are not "
     "counted)."),
    ({"recipe": BETA, "money": 2.5, "seconds": 900.0, "beta_seconds": 900.0},
     "2.5 in money for the big model and 900 seconds (all of them the big model's)."),
  ],
)  # fmt: skip
def test_the_verdict_says_what_the_recipe_costs(of, told):
  assert measured(of, of).costs == f"Per 1,000 answers it takes {told}"


def test_a_wide_interval_is_too_little_data_and_tells_how_much_is_enough():
  generator = np.random.default_rng(0)
  scores = {name: generator.integers(0, 2, (1, 40)) * 100.0 for name in ("fiat", "tuned")}
  found = judge(scores, rows=40, fiat=(FIAT, 60.0), tuned=(TUNED, 50.0))
  assert (found.recipe, found.outcome) == ("fiat", "too little data")
  assert max(map(abs, found.interval)) > MARGIN and "To show 5 points takes about" in found.words


def test_five_groups_are_too_little_whatever_they_show():
  groups = [f"g{n % 5}" for n in range(ROWS)]
  found = judge({"fiat": right(1), "tuned": right(0)}, groups=groups, fiat=(FIAT, 100.0), tuned=(TUNED, 0.0))
  assert (found.outcome, found.interval, found.pairs[0].could_show) == ("too little data", (-100, 100), None)
  assert "fewer than 6 groups" in found.words


def test_a_pick_that_test_puts_below_another_is_no_confident_verdict():
  found = judge({"fiat": right(0.5), "tuned": right(0.8)}, fiat=(FIAT, 90.0), tuned=(TUNED, 50.0))
  assert (found.recipe, found.outcome, found.pick) == ("tuned", "too little data", "fiat")


def test_the_order_of_recipes_changes_nothing():
  given = {"fiat": (FIAT, 70.0), "tuned": (TUNED, 70.0), "beta": (BETA, 60.0)}
  scores = {"fiat": right(0.7), "tuned": right(0.65), "beta": right(0.6)}
  found = judge(scores, **given)
  again = judge(dict(reversed(scores.items())), **dict(reversed(given.items())))
  for name in ("recipe", "outcome", "pick", "interval", "p", "words"):
    assert getattr(found, name) == getattr(again, name)


def test_a_hundred_pairs_of_equal_recipes_give_at_most_five_confident_verdicts():
  generator, clear = np.random.default_rng(0), 0
  for _ in range(100):
    validation = draw(generator, *layout(8, 8))
    candidates = [Candidate(name=name, recipe=FIAT, validation=validation.macro(name)) for name in ("a", "b")]
    clear += decide(candidates, resample(draw(generator, *layout(12, 8))), "accuracy").outcome == "clear"
  assert clear <= 5


@pytest.mark.slow
def test_twelve_equal_recipes_on_a_hundred_rows_are_hardly_ever_clear():
  generator, clear = np.random.default_rng(0), 0
  rows = [f"row{n}" for n in range(100)]
  for _ in range(50):
    ability = generator.normal(0, 1, 100)
    scores = {f"r{n}": 100.0 * (ability + generator.normal(0, 0.7, (1, 100)) > 0) for n in range(12)}
    candidates = [Candidate(name=name, recipe=FIAT, validation=generator.normal(50, 5)) for name in scores]
    drawn = resample(Scored(scores=scores, langs=["en"] * 100, groups=rows), 2000)
    clear += decide(candidates, drawn, "accuracy").outcome == "clear"
  assert clear <= 1


def test_a_score_has_an_interval_within_the_scale_also_where_every_row_is_right():
  scored = Scored(scores={"a": right(1), "b": right(0.5)}, langs=["en"] * ROWS, groups=[f"r{n}" for n in range(ROWS)])
  low, high = score_interval(resample(scored), "a")
  # Clopper and Pearson's bound for 400 of 400
  assert high == 100 and low == pytest.approx(100 * 0.025 ** (1 / 400))
  low, high = score_interval(resample(scored), "b")
  assert (low, high) == (pytest.approx(45.1, abs=0.3), pytest.approx(54.9, abs=0.3))


def test_the_page_holds_table_words_pairs_and_rule():
  scores = {"fiat": right(0.8), "tuned": right(0.6), "beta": right(0.7)}
  found = judge(scores, fiat=(FIAT, 81.0), tuned=(TUNED, 60.0), beta=(BETA, 70.0))
  summary = {"rows": ROWS, "languages": {}, "empty": 0, "unfinished": 0, "unparsed": 0}
  results = [
    {"recipe": r.name, "title": r.title, "interval": (1.0, 2.0), "test": summary | {"overall": {"m": 50.0}}}
    for r in (Candidate(name=n, recipe=x, validation=0) for n, x in (("fiat", FIAT), ("tuned", TUNED), ("beta", BETA)))
  ]
  page = report.markdown(results, ("m",), found, report.power_line(["en"] * 96, ["g"] * 96))
  assert "| 95 % interval |" in page and "1.0 to 2.0" in page
  assert "## Verdict: clear" in page and found.words in page and found.costs in page and RULE in page
  assert "| fiat" not in page and "| FIAT - beta alone" in page and page.count("(Holm)") == 1 and "Not run" not in page
  command = "fiat compare --data my.csv --base_model NAME"
  lacking = {name: {"title": name.upper(), "needs": "--base_model", "command": command} for name in ("a", "b")}
  folded = dataclasses.replace(found, apart=False)
  page = report.markdown(results, ("m",), folded, not_run=lacking, folds=5)
  assert page.count("(Holm)") == 3
  assert f"Not run: A; B: need --base_model. To run them: `{command}`" in page
  assert "Over 5 folds: each row" in page


def test_what_can_be_shown_is_told_before():
  assert "96 rows in 12 groups can show a difference of about" in report.power_line(*layout(12, 8))
  assert "5 groups of rows can show no difference; 6 are the least" in report.power_line(*layout(5, 8))


def test_counts_over_seeds_and_differences_of_nothing_are_written_short():
  summary = {"rows": ROWS, "languages": {}, "empty": 1 / 3, "unfinished": 1234.0, "unparsed": 0, "overall": {"m": 50.0}}
  assert report.table([{"title": "FIAT", "test": summary}], ("m",), "test").splitlines()[-1].endswith(" 1234.3 |")
  same = judge({"tuned": right(0.5), "beta": right(0.5)}, tuned=(TUNED, 60.0), beta=(BETA, 50.0))
  assert "+0.0 points" in same.words and "-0.0 points" not in same.words
