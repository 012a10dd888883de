"""`fiat evaluate`: scores of a run's best checkpoint, or of a model that nothing was tuned on."""

from __future__ import annotations

import json
import pathlib

from fiat_jax import runtime
from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.verbs.best import restore_best
from fiat_jax.verbs.objectives import objective_of
from fiat_jax.verbs.train import one_recipe
from fiat_jax.whole import write_whole
from fiat_jax.workbench import Workbench


def main(configuration: Configuration) -> None:
  settings = configuration.settings
  name = one_recipe(settings)
  recipe = configuration.recipe(name)
  split = next((split for split in ("test", "validation") if split in settings.files()), None)
  if split is None:
    raise UserError("no rows to evaluate on: give --test FILE")
  configuration = configuration.only(split)
  runtime.start()
  metrics.check(settings.metrics)
  folder = pathlib.Path(settings.model_dir)
  bench = Workbench(configuration, labelled=not settings.corrupts)
  objective = objective_of(bench, recipe)
  bench.check_splits(folder)
  bench.prepare([recipe])
  trained = restore_best(bench, recipe, folder)
  result = {"recipe": name, "title": recipe.title, split: objective.judge(split, trained, folder)}
  result |= bench.truncated(recipe)
  write_whole(folder / f"evaluation_{split}.json", json.dumps(result, indent=2) + "\n")
  objective.show([result], split)
  print(f"\n{folder}/{objective.written.format(split=split)}")
