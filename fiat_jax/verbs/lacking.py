"""What a recipe needs beside rows and is not there, in words with what to do, and the command that has it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence

from fiat_jax.configuration import NEEDED, Configuration
from fiat_jax.reasoning import forms, reasoner, view
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.reasoning.ledger import Price
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import asking
from fiat_jax.verbs.budget import Budget
from fiat_jax.workbench import Workbench

REASONING = "the big model's reasoning"
ASKED = "--beta openai:NAME --beta_url URL"
ADDED: Mapping[str, str] = {  # to the command, by what is lacking
  "--model": "--model NAME",
  "--base_model": "--base_model NAME",
  "--validation": "--validation FILE",
  "--beta": f"{ASKED} --max_cost MONEY",
  "--store": "--store reasoning",
  "--answer": "--answer PATTERN",
  "--max_cost": "--max_cost MONEY",
  "whole weights": "--weights ''",
  "exemplars": "--exemplars FILE",
}


def lacking(bench: Workbench, recipe: Recipe) -> list[str]:
  """All that the recipe needs beside rows and is not there, with what to do."""
  return [lack for look in LOOKS if (lack := look(bench.of(recipe), recipe))]


def head(lack: str) -> str:
  """What it is, without what to do."""
  return lack.partition(": ")[0]


def enabling(configuration: Configuration, lacks: Sequence[str]) -> str:
  """The command with which nothing of this lacks; reasoning is asked for by one before it.

  Flags are added at its end: of a flag that is given twice the last counts.
  """
  settings = configuration.settings
  added = [flag for lack in lacks for of, flag in ADDED.items() if lack.startswith(of)]
  if not settings.store and any(lack.startswith((REASONING, "--beta")) for lack in lacks):
    added.append("--store reasoning")
  command = " ".join([configuration.command, *added])
  if not any(lack.startswith(REASONING) for lack in lacks):
    return command
  big = ASKED if settings.beta == view.RECORDED else f"--beta {shlex.quote(settings.beta)}"
  rows = [f"--{split} {shlex.quote(path)}" for split, path in settings.bare_files().items()]
  rows = [f"--data {shlex.quote(settings.data)}"] if settings.data else rows
  return " ".join(["fiat annotate", *rows, big, f"--store {shlex.quote(settings.store or 'reasoning')}", "&&", command])


def _model(bench: Workbench, recipe: Recipe) -> str:
  setting = recipe.model_setting
  there = not recipe.runs_model or getattr(bench.settings, setting)
  return "" if there else f"--{setting}: {NEEDED[setting]}"


def _whole_weights(bench: Workbench, recipe: Recipe) -> str:
  if recipe.adapter != "full" or not bench.settings.weights:
    return ""
  return "whole weights: it trains all weights, and what is quantized is frozen: leave --weights out"


def _reasoning(bench: Workbench, recipe: Recipe) -> str:
  if not (recipe.needs_reasoning or recipe.distils):
    return ""
  settings = bench.settings
  splits = [split for split in bench.rows if split == "train" or not recipe.distils]
  count = sum(len(bench.rows[split]) for split in splits)
  bare = sum(not row.reasoning for split in splits for row in bench.rows[split])
  if bare <= ((1 - settings.completeness) * count if settings.store else 0):
    return ""
  place = f"the store {settings.store}" if settings.store else f"the column {settings.reasoning!r}"
  return (
    f"{REASONING}: {bare} of {count} rows have none in {place}; name its column with --reasoning, or ask "
    "for it with `fiat annotate` and give its --store"
  )


def _answers(bench: Workbench, recipe: Recipe) -> str:
  if recipe.reasoning_form not in forms.BY_ANSWER:
    return ""
  read = AnswerRule.parse(bench.settings.answer).read
  if any(read(row.reasoning or "") for rows in bench.rows.values() for row in rows):
    return ""
  return "--answer: the pattern by which the big model's answer is read out of its reasoning"


def _in_context(bench: Workbench, recipe: Recipe) -> str:
  return asking.lacking(bench.settings, recipe, bench.rows) if recipe.in_context else ""


def _cost(bench: Workbench, recipe: Recipe) -> str:
  """What is not named may spend money only where it is said how much."""
  settings = bench.settings
  endpoint = recipe.in_context == "beta" and settings.beta.startswith(reasoner.ENDPOINT)
  if not endpoint or settings.recipes or settings.max_cost or Budget.parse(settings.budget).money < math.inf:
    return ""
  if settings.price and not Price.parse(settings.price).of((1, 1)):
    return ""
  return f"--max_cost: it asks {settings.beta}, which costs money; or name it in --recipes"


LOOKS: Sequence[Callable[[Workbench, Recipe], str]] = (_model, _whole_weights, _reasoning, _answers, _in_context, _cost)
