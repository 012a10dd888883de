"""What comparisons conclude, in `results.json`: of reasoning that tells, of noise, of a recipe and itself."""

import dataclasses
import json
import random

import numpy as np
import pytest
from commands import results, runner

from fiat_jax.evaluation.evaluate import read_scores
from fiat_jax.evaluation.statistics import Scored, resample
from fiat_jax.evaluation.verdict import Candidate, decide
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import record

SIZES = {"train": 192, "validation": 64, "test": 240}
SETTINGS = ("--gin.LABELS=('yes', 'no')", "--metrics", "accuracy", "--batch", "16", "--target_length", "4")
SETTINGS += ("--learning_rate", "0.002", "--epochs", "2", "--validate_every", "24")
SETTINGS += ("--template", "plain")  # a chat's words around a row are longer than the row


def write(folder, told, noisy=False):
  """Rows of which half say their answer, the others' is yes in four of five; `told`: what the reasoning tells.

  `noisy`: the others' is yes in one of two, and every row is another.
  """
  generator, share = random.Random(0), 0.5 if noisy else 0.2
  folder.mkdir()
  for split, count in SIZES.items():
    lines = []
    for n in range(count):
      answer = generator.choice(("yes", "no")) if n % 2 else "no" if generator.random() < share else "yes"
      said = {"yes": "red", "no": "blue"}[answer] if n % 2 else "grey"
      reasoning = f"It is known. The answer is {told(answer, generator)}."
      asked = f"Is the {said} one right{f', of {generator.randrange(1000)}' if noisy else ''}?"
      row = {"id": f"{split}{n}", "input": asked, "target": answer, "reasoning": reasoning}
      lines.append(json.dumps({**row, "group": f"{split}{n}"}))
    (folder / f"{split}.jsonl").write_text("\n".join(lines))
  return folder


def above_the_other(found, name):
  """The interval by which one of two recipes is above the other; `interval` is that of the pick."""
  low, high = found["interval"]
  return (low, high) if found["pick"] == name else (-high, -low)


def test_the_interval_of_a_verdict_is_that_of_the_pick():
  rows = [f"row{n}" for n in range(200)]
  scores = {"fiat": 100.0 * (np.arange(200) < 120)[None], "fine_tuning": 100.0 * (np.arange(200) < 160)[None]}
  for pick in scores:
    candidates = [Candidate(name=name, recipe=Recipe(), validation=float(name == pick)) for name in scores]
    drawn = resample(Scored(scores=scores, langs=["en"] * 200, groups=rows))
    found = dataclasses.asdict(decide(candidates, drawn, "accuracy"))
    assert found["pick"] == pick and found["recipe"] == "fine_tuning"
    assert above_the_other(found, "fiat")[1] < 0 < above_the_other(found, "fine_tuning")[0]


@pytest.mark.slow
@pytest.mark.parametrize("true", [True, False], ids=["true", "noise"])
def test_reasoning_is_recommended_where_it_tells_and_not_where_it_is_noise(true, tmp_path):
  told = (lambda answer, _: answer) if true else (lambda _, generator: generator.choice(("yes", "no")))
  rows = write(tmp_path / "rows", told)
  runner(rows, *SETTINGS)("compare", tmp_path / "run", "--recipes", "fiat,fine_tuning")
  report = results(tmp_path / "run")
  found = report["verdict"]
  accuracy = {recipe["recipe"]: recipe["test"]["overall"]["accuracy"] for recipe in report["recipes"]}
  if true:
    assert (found["recipe"], found["outcome"]) == ("fiat", "clear") and found["interval"][0] > 0
  else:
    assert accuracy["fine_tuning"] > 80, "it learned the rows that say their answer, or nothing would be compared"
    assert found["recipe"] == "fine_tuning" and found["outcome"] in ("indistinguishable", "clear")
    assert above_the_other(found, "fiat")[0] <= 0, "FIAT is not above it"


@pytest.mark.slow
def test_a_recipe_under_two_seeds_is_not_told_from_itself(tiny_checkpoint, tmp_path):
  rows, recipe = write(tmp_path / "rows", lambda answer, _: answer, noisy=True), Recipe(title="full fine-tuning")
  words = ("--recipes", "full_fine_tuning", "--seeds", "0,1,2,3,4,5", "--learning_rate", "0.01", "--epochs", "10")
  words += ("--validate_every", "60")
  runner(rows, *SETTINGS, "--model", str(tiny_checkpoint))("compare", tmp_path / "run", *words)
  (found,) = results(tmp_path / "run")["recipes"]
  homes = [tmp_path / "run" / "full_fine_tuning" / f"seed_{seed}" for seed in range(6)]
  scores = [np.array([read_scores(home / "predictions" / "test.jsonl", "accuracy")]) for home in homes]
  names = [f"test{n}" for n in range(SIZES["test"])]
  outcomes = []
  for pair in ((0, 1), (2, 3), (4, 5)):
    assert not np.array_equal(scores[pair[0]], scores[pair[1]]), "the seed tells"
    recipes = {f"seed_{seed}": recipe for seed in pair}
    scored = Scored(scores={f"seed_{s}": scores[s] for s in pair}, langs=["und"] * len(names), groups=names,
                    tuned=record.tuned(recipes))  # fmt: skip
    runs = [found["seeds"][seed] | {"recipe": f"seed_{seed}"} for seed in pair]
    verdict = record.judge(recipes, runs, scored, "accuracy")
    assert verdict
    outcomes.append(verdict.outcome)
  assert "clear" not in outcomes, outcomes
