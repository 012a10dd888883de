"""The shipped recipes change the switches that the comments above them say, and no others."""

import dataclasses
import re
from pathlib import Path

import pytest

from fiat_jax.configuration import configure
from fiat_jax.recipe import Recipe

FILES = sorted((Path(__file__).parents[1] / "gin" / "recipes").glob("*.gin"))
FIAT = Recipe(instruction=True, reasoning=True, adapter="lora", instruction_tuned=True, title="FIAT")
SAID = {  # of what differs from FIAT
  "no reasoning": ("reasoning", False),
  "no instruction": ("instruction", False),
  "all parameters": ("adapter", "full"),
  "nothing is tuned": ("adapter", "none"),
  "as it came": ("adapter", "none"),
  "BASE_MODEL": ("instruction_tuned", False),
  "own answer": ("answer_of_beta", True),
  "reads the answer alone": ("reasoning_form", "answer"),
  "(rsLoRA": ("adapter", "rslora"),
  "DoRA is tuned": ("adapter", "dora"),
  "IA3 in the place": ("adapter", "ia3"),
  "a soft prompt": ("adapter", "prompt"),
  "every linear projection": ("adapted", "linear"),
  "write the big model's reasoning": ("distils", True),
  "starts from the adapter of distilled": ("begins_with", "distilled"),
  "5e-5": ("overrides", {"OPTIMIZER": "adamw", "LEARNING_RATE": 5e-5, "BATCH": 64, "STEPS": 10_000}),
  "big model, asked": ("in_context", "beta"),
  "tuned model, asked": ("in_context", "model"),
  "rows with their answers are shown": ("exemplars", "shown"),
  "rows with reasoning are shown": ("exemplars", "shown"),
  "rows that are most alike": ("exemplars", "nearest"),
  "told to reason": ("thinks", True),
  "majority": ("votes", True),
}
UNREAD = ("instruction", "reasoning", "instruction_tuned")  # where no model runs


def test_fiat_is_the_whole():
  assert configure([], [], {}).recipe("fiat") == FIAT


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_recipe_differs_from_fiat_in_what_its_comment_says(file: Path):
  lines = file.read_text(encoding="utf-8").splitlines()
  comment = " ".join(line[2:] for line in lines if line.startswith("#"))
  recipe = configure([], [], {}).recipe(file.stem)
  assert all(line.startswith(("# ", f"{file.stem}/Recipe.")) for line in lines) and recipe.title
  fields = [field.name for field in dataclasses.fields(Recipe) if field.name != "title"]
  differ = {name: getattr(recipe, name) for name in fields if getattr(recipe, name) != getattr(FIAT, name)}
  if not recipe.reads_rows:
    differ = {name: value for name, value in differ.items() if name not in UNREAD}
  assert differ == dict(change for phrase, change in SAID.items() if phrase in comment)
  if changed := re.match(r"(\w+) with one (?:more )?switch changed", comment):
    other = configure([], [], {}).recipe(changed[1].lower())
    assert sum(getattr(recipe, name) != getattr(other, name) for name in fields) == 1


@pytest.mark.parametrize(
  ("recipe", "flags", "rate"),
  [
    ("fiat", {}, 0.001),
    ("fiat_rslora", {}, 0.001),
    ("fiat_ia3", {}, 0.003),
    ("fine_tuning_prompt", {}, 0.03),
    ("full_fine_tuning", {}, 0.0001),
    ("full_fine_tuning", {"OPTIMIZER": "adafactor"}, 0.001),
    ("full_fine_tuning", {"LEARNING_RATE": "0.02"}, 0.02),
    ("distilled_published", {"LEARNING_RATE": "0.02"}, 5e-5),
  ],
)
def test_where_no_learning_rate_is_given_it_suits_what_is_tuned(recipe, flags, rate):
  configuration = configure([], [], flags)
  assert configuration.own(configuration.recipe(recipe)).settings.learning_rate == rate
