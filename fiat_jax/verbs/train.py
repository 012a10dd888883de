"""`fiat train`: one recipe, from rows to an adapter and its scores."""

from __future__ import annotations

import pathlib

from fiat_jax import runtime
from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.progress import say
from fiat_jax.settings import Settings
from fiat_jax.verbs.objectives import objective_of
from fiat_jax.verbs.tuning import first_stage, optimizer_config, train_recipe
from fiat_jax.verbs.validation import repeats
from fiat_jax.workbench import Workbench

DEFAULT_RECIPES = {"answer": "fiat", "span_corruption": "full_fine_tuning", "chat": "fine_tuning"}


def main(configuration: Configuration) -> None:
  settings = configuration.settings
  name = one_recipe(settings)
  recipe = configuration.recipe(name)
  if not recipe.trains:
    raise UserError(f"the recipe {name!r} tunes nothing: use `fiat compare` or `fiat evaluate`")
  if settings.sought:
    raise UserError(f"--try_{settings.sought[0]}s: compare searches prompts; give train the one to use")
  if len(settings.seeds) != 1:
    raise UserError(f"--seeds {settings.seeds}: train takes one seed; compare runs several")
  runtime.start(settings)
  metrics.check(settings.metrics, bool(settings.labels), settings.allow_code_execution)
  optimizer_config(configuration.own(recipe).settings)
  bench = Workbench(configuration, labelled=not settings.corrupts)
  objective = objective_of(bench, recipe)
  bench.prepare([recipe, *first_stage(bench, recipe).values()])
  result = train_recipe(bench, name, recipe, pathlib.Path(settings.model_dir), settings.seeds[0])
  objective.show([result], "test" if "test" in result else "validation")
  for warning in repeats.of_bench(bench):
    say(f"warning: {warning}")
  adapter = f"; its adapter, in PEFT's format, is in {settings.model_dir}/adapter" if recipe.adapts else ""
  print(f"\n{settings.model_dir} holds the run{adapter}")


def one_recipe(settings: Settings) -> str:
  names = list(settings.recipes) or [DEFAULT_RECIPES[settings.objective]]
  if len(names) > 1:
    raise UserError(f"--recipes {','.join(names)}: give one here; `fiat compare` takes several")
  return names[0]
