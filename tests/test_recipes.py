"""The shipped recipes change the switches that the comments above them say, and no others."""

import dataclasses
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
  if recipe.answer_of_beta:
    differ = {name: value for name, value in differ.items() if name not in UNREAD}
  assert differ == dict(change for phrase, change in SAID.items() if phrase in comment)
  assert len(differ) == 1 or "one switch" not in comment
