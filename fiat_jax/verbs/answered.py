"""Validation is answered once by the same parameters, however many runs of a command come to ask.

At step 0 an adapter is the same for every learning rate that is tried; with the best checkpoint training has answered.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from fiat_jax import stopwatch
from fiat_jax.evaluation.evaluate import Prediction
from fiat_jax.fingerprint import fingerprint
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.verbs.predictions import predict
from fiat_jax.workbench import Workbench

KEPT = 16  # answers to a whole split


class Answered(NamedTuple):
  """What a recipe answered to a split; the seconds that it took, compiling left out, 0 where no model ran."""

  predictions: list[Prediction]
  seconds: float


def answered(bench: Workbench, recipe: Recipe, split: str, tree: Any | None, *, searched: bool = True) -> Answered:
  """The recipe's answers with a trained tree, None the model as it came; of validation those that are known, if any.

  Args:
    searched: by beam search where the settings ask for it; without, greedily.
  """
  if split != "validation" or tree is None:
    return _answer(bench, recipe, split, tree, searched)
  searched = searched and bench.settings.beams > 1
  same = dataclasses.replace(recipe, overrides={})  # they are in the settings
  key = (fingerprint(tree), same, _answering(bench.settings), searched)
  if key not in bench.answered:
    while len(bench.answered) >= KEPT:
      del bench.answered[next(iter(bench.answered))]
    bench.answered[key] = _answer(bench, recipe, split, tree, searched)
  return bench.answered[key]


def _answer(bench: Workbench, recipe: Recipe, split: str, tree: Any | None, searched: bool) -> Answered:
  if recipe.answer_of_beta:
    return Answered(predict(bench, split, recipe, None), 0.0)
  engine = bench.models.engine(recipe, tree)
  with stopwatch.warm() as elapsed:
    predictions = predict(bench, split, recipe, engine, searched=searched)
  return Answered(predictions, elapsed.seconds)


def _answering(settings: Settings) -> Settings:
  """Without what only training goes by, which runs of one command may have unlike."""
  return dataclasses.replace(settings, learning_rate=0.0, epochs=0.0, steps=0, train_rows=0)
