"""What a model is asked that nothing is tuned on: the prompt, the exemplars, how often (in-context learning).

Exemplars come from EXEMPLARS or, without that, from the training rows that others learn from; never one whose input or
group stands among the rows that are asked about.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fiat_jax import prompts
from fiat_jax.data.batches import drawn
from fiat_jax.data.rows import Row, read_rows
from fiat_jax.errors import UserError
from fiat_jax.reasoning import exemplars
from fiat_jax.reasoning.answers import AnswerRule, same
from fiat_jax.reasoning.exemplars import Exemplars
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.reasoning.view import TRAIN
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings

VOTES, WARMTH = 5, 0.7  # answers a row and their temperature, where SAMPLES and TEMPERATURE give one greedy answer
CUE = "\n\nAnswer:"  # between an exemplar's input and its answer


def settings_of(settings: Settings, recipe: Recipe) -> Settings:
  """The settings under which the recipe's model is asked, as `fiat annotate` would read them."""
  shown = recipe.exemplars != "none"
  changes: dict[str, Any] = {
    "exemplars": (settings.exemplars or TRAIN) if shown else "",
    "shots": max(1, settings.shots) if shown else 0,
    "reasoning_length": settings.reasoning_length if recipe.thinks else settings.target_length,
    "samples": (settings.samples if settings.samples > 1 else VOTES) if recipe.votes else 1,
    "temperature": (settings.temperature or WARMTH) if recipe.votes else 0.0,
  }
  if recipe.exemplars == "nearest":
    changes["shot_choice"] = "nearest"
  elif settings.shot_choice == "nearest":
    changes["shot_choice"] = "first"
  if recipe.in_context == "model":
    changes |= {"beta": settings.model, "beta_url": "", "batch_api": False, "beta_weights": settings.weights}
    changes["beta_template"] = settings.template
  return dataclasses.replace(settings, **changes)


def template_of(settings: Settings, recipe: Recipe) -> ReasoningPrompt:
  """I_β where the model is to reason, else I_τ, and behind it a cue where exemplars show what follows.

  Raises:
    UserError: the input stands in the instruction more than once.
  """
  if recipe.thinks:
    return ReasoningPrompt.parse(settings.reasoning_instruction)
  pieces = prompts.tuned_prompt(settings.instruction, use_instruction=recipe.instruction, use_reasoning=False)
  if len(prompts.fields(pieces)) > 1:
    raise UserError(f"--instruction {settings.instruction!r} holds {{x}} more than once: no exemplars fit in")
  place = pieces.index(prompts.Field("x"))
  before, behind = (prompts.fill(part, {}) for part in (pieces[:place], pieces[place + 1 :]))
  return ReasoningPrompt(before, "", behind if behind.strip() or recipe.exemplars == "none" else CUE)


def exemplars_of(settings: Settings, recipe: Recipe, rows: Mapping[str, Sequence[Row]]) -> Exemplars | None:
  """The candidates, with what is to be written about them as their reasoning; None where none are shown.

  Args:
    settings: of `settings_of`.
    rows: of every split, with their reasoning.

  Raises:
    UserError: there are none.
  """
  if recipe.exemplars == "none":
    return None
  given: Iterable[Row] = read_rows(settings.exemplars, settings.layout) if settings.exemplars != TRAIN else ()
  if settings.exemplars == TRAIN and (learned := rows.get(TRAIN)):
    given = [learned[n] for n in drawn(len(learned), settings.train_rows, settings.split_seed)]
  asked = [row for split in rows if split != TRAIN for row in rows[split]]
  inputs, groups = {row.x for row in asked}, {row.group for row in asked}
  own = [row for row in given if row.x not in inputs and row.group not in groups]
  candidates = reasoned(own, settings.answer) if recipe.thinks else list(map(_answered, own))
  if not candidates:
    raise UserError(f"the recipe {recipe.title!r} {NONE_TO_SHOW[recipe.thinks]}")
  assert not inputs & {row.x for row in candidates}
  return exemplars.among(candidates, settings)


NONE_TO_SHOW = {
  False: "needs exemplars, and no row is left that is not asked about: give --train FILE, or --exemplars FILE",
  True: "needs exemplars with reasoning that leads to the right answer, and there is none: give --exemplars FILE with "
  "the column that --reasoning names",
}


def reasoned(rows: Sequence[Row], rule: str) -> list[Row]:
  """Those with reasoning that leads to their target by the rule that will read the model's own."""
  read = AnswerRule.parse(rule).read
  found = ((row, read(row.reasoning)) for row in rows if row.reasoning)
  return [row for row, answer in found if answer and any(same(answer, target) for target in row.targets)]


def _answered(row: Row) -> Row:
  return dataclasses.replace(row, reasoning=row.targets[0])
