"""`fiat predict`: a run's answers to rows, which need no target."""

from __future__ import annotations

import pathlib

from fiat_jax import runtime
from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.evaluation.evaluate import write_predictions
from fiat_jax.verbs.best import restore_best
from fiat_jax.verbs.objectives import refuse_in_context
from fiat_jax.verbs.predictions import predict
from fiat_jax.verbs.train import one_recipe
from fiat_jax.workbench import Workbench, columns


def main(configuration: Configuration) -> None:
  settings = configuration.settings
  if settings.deployment:
    from fiat_jax.verbs import predict_deployed  # the package `openai` is slow to import

    return predict_deployed.main(configuration)
  settings.answers("predict")
  metrics.check(settings.metrics, bool(settings.labels), settings.allow_code_execution, judge=True)
  if "test" not in settings.files():
    raise UserError("no rows to answer: give --test FILE")
  if not settings.output:
    raise UserError("no place for the answers: give --output FILE")
  configuration = columns.as_trained(configuration).only("test")
  if settings.chats:  # who learned from them can answer; no row has turns to leave out
    configuration = configuration.replace(objective="answer", truncate="")
  recipe = configuration.recipe(one_recipe(settings))
  refuse_in_context(recipe)
  runtime.start(settings)
  bench = Workbench(configuration, labelled=False)
  bench.prepare([recipe])
  trained = restore_best(bench, recipe, pathlib.Path(settings.model_dir))
  predictions = predict(bench, "test", recipe, None if recipe.answer_of_beta else bench.models.engine(recipe, trained))
  write_predictions(pathlib.Path(settings.output), predictions, settings.metrics)
  print(f"{settings.output} holds {len(predictions)} answers")
