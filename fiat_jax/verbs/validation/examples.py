"""The part of the report that shows rows exactly as the model receives them."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence

from fiat_jax import prompts
from fiat_jax.configuration import Configuration
from fiat_jax.data import show
from fiat_jax.data.rows import Row
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.reasoning import forms
from fiat_jax.recipe import ModelSetting, Recipe
from fiat_jax.verbs.validation.findings import Findings


def shown(
  configuration: Configuration,
  splits: Mapping[str, Sequence[Row]],
  tokenizers: Mapping[ModelSetting, Tokenizer],
  findings: Findings,
) -> list[str]:
  """The first rows of the first split in the form of the first recipe; loss in colour on a terminal, else ⟦…⟧."""
  split, rows = next(iter(splits.items()))
  recipe = _recipe(configuration, rows)
  tokenizer = tokenizers[recipe.model_setting]
  template = prompts.tuned_prompt(
    configuration.settings.instruction,
    use_instruction=recipe.instruction,
    use_reasoning=recipe.reasoning,
    prefix=prompts.PREDICT if recipe.distils else "",
  )
  lines, loss = [], paint()
  shown, settings = list(rows[: configuration.settings.show]), configuration.settings
  if recipe.reasoning and recipe.reasoning_form != "whole":
    texts = forms.texts(shown, recipe.reasoning_form, settings.answer, settings.split_seed)
    shown = [dataclasses.replace(row, reasoning=text) for row, text in zip(shown, texts, strict=True)]
  for position, row in enumerate(shown):
    lines += [f"--- {findings.place(split, position)} as {recipe.title} sees it ---"]
    lines += [*show.lines(tokenizer, show.example(tokenizer, template, row), loss), ""]
  return lines


def paint() -> show.Paint:
  """Colour where standard output shows it and nobody minds (https://no-color.org); brackets elsewhere."""
  plain = not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
  return show.brackets if plain else show.colour


def _recipe(configuration: Configuration, rows: Sequence[Row]) -> Recipe:
  """The first one asked for in which a model reads anything; else what `fiat compare` would run."""
  default = "fiat" if all(row.reasoning for row in rows) else "fine_tuning"
  asked = [configuration.recipe(name) for name in configuration.settings.recipes]
  return next((recipe for recipe in asked if recipe.reads_rows), configuration.recipe(default))
