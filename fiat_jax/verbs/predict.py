"""`fiat predict`: a run's answers to rows, which need no target."""

from __future__ import annotations

import json
import os
import pathlib

from fiat_jax import runtime
from fiat_jax.configuration import Configuration
from fiat_jax.data.rows import locate
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.evaluation.evaluate import write_predictions
from fiat_jax.settings import Settings
from fiat_jax.verbs.best import restore_best
from fiat_jax.verbs.objectives import refuse_in_context
from fiat_jax.verbs.predictions import predict
from fiat_jax.verbs.train import one_recipe
from fiat_jax.whole import refuse_unwritable
from fiat_jax.workbench import Workbench, columns

READ = ("data", "train", "validation", "test", "exemplars")  # settings that name files of rows
WRITTEN = ({"id", "lang", "group", "input", "prediction"}, {"id", "answer", "finish", "versions"})  # by a deployment


def main(configuration: Configuration) -> None:
  settings = configuration.settings
  if settings.deployment:
    from fiat_jax.verbs import predict_deployed  # the package `openai` is slow to import

    return predict_deployed.main(configuration)
  settings.answers("predict")
  metrics.check(settings.metrics, bool(settings.labels), settings.allow_code_execution, judge=True)
  if "test" not in settings.files():
    raise UserError("no rows to answer: give --test FILE")
  check_output(settings)
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


def check_output(settings: Settings) -> None:
  """Raises UserError where OUTPUT is not given, cannot be written, or is a file that holds anything but answers."""
  if not settings.output:
    raise UserError("no place for the answers: give --output FILE")
  output = pathlib.Path(settings.output)
  refuse_unwritable(output)
  if not output.exists():
    return
  for name in READ:
    file = locate(getattr(settings, name))[0]
    if file.is_file() and os.path.samefile(file, output):
      raise UserError(f"is a file that --{name} reads, and would be overwritten: give another --output", output)
  if not _holds_answers(output):
    raise UserError("is there already and holds no answers of `fiat predict`: give another --output", output)


def _holds_answers(file: pathlib.Path) -> bool:
  """Whether an earlier `predict` wrote it, by its first line; an empty file is as good."""
  with open(file, encoding="utf-8") as opened:
    try:
      first = opened.readline()
      record = json.loads(first) if first else None
    except ValueError:  # no JSON, or no text
      return False
  return not first or (isinstance(record, dict) and any(names <= record.keys() for names in WRITTEN))
