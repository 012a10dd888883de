"""The texts that a command's recipes put rows into, and the exact prompts that come of it."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

from fiat_jax import prompts
from fiat_jax.data import truncation
from fiat_jax.data.rows import Row
from fiat_jax.data.truncation import Truncation
from fiat_jax.errors import UserError
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.workbench.models import Models


def without_reasoning(recipe: Recipe) -> Recipe:
  """The form in which reasoning dropout gives a row."""
  return dataclasses.replace(recipe, reasoning=False)


def prefix(recipe: Recipe) -> str:
  """What prompts for answers begin with, where a recipe's prompts ask for two things."""
  return prompts.PREDICT if recipe.distils else ""


class Templates:
  """Each recipe's; `truncation` says which column is cut where a prompt is too long."""

  def __init__(self, settings: Settings, models: Models):
    self._settings, self._models = settings, models
    self.truncation = Truncation.parse("" if settings.chats else settings.truncate, settings.source_length)

  def under(self, settings: Settings, models: Models) -> Templates:
    """The same templates with other settings of training."""
    templates = copy.copy(self)
    templates._settings, templates._models = settings, models
    return templates

  def of(self, recipe: Recipe) -> prompts.Template:
    """What a row's x and reasoning are put into, before the chat's turn marks."""
    return prompts.tuned_prompt(
      self._settings.instruction,
      use_instruction=recipe.instruction,
      use_reasoning=recipe.reasoning,
      prefix=prefix(recipe),
    )

  def unaided(self, recipe: Recipe) -> Recipe | None:
    """The form in which its tuned model is asked where the big model is unavailable; None where it has no such form."""
    if not (recipe.trains and recipe.reasoning):
      return None
    try:
      self.of(without_reasoning(recipe))
    except UserError:  # x stands on one line with the reasoning
      return None
    return without_reasoning(recipe)

  def prompt(self, recipe: Recipe, row: Row) -> str:
    """The exact string whose ids the model reads for a row."""
    (text,) = self._texts(recipe, [row])
    return self._models.of(recipe).tokenizer.prompt_string(text)

  def prompt_ids(self, recipe: Recipe, rows: Sequence[Row]) -> list[list[int]]:
    """The ids that the model reads for rows that are in no file."""
    return self._models.of(recipe).tokenizer.encode_prompts(self._texts(recipe, rows))

  def _texts(self, recipe: Recipe, rows: Sequence[Row]) -> list[str]:
    """Prompts without the chat's turn marks, cut where TRUNCATE says so."""
    template, xs = self.of(recipe), [row.x for row in rows]
    if self.truncation:
      xs = truncation.cut(rows, self._settings.layout, template, self._models.of(recipe).tokenizer, self.truncation)
    return [truncation.prompt_text(template, row, x) for row, x in zip(rows, xs, strict=True)]
