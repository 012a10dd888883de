"""`fiat plan`: whether a run would fit on devices that are not here, and what its steps would cost there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.models.family import check_dtype
from fiat_jax.planning import chips, report
from fiat_jax.planning.child import ask, has_compiler
from fiat_jax.planning.records import Asked
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import choice
from fiat_jax.verbs.train import DEFAULT_RECIPES
from fiat_jax.workbench import lora_config
from fiat_jax.workbench.models import check_weights


def main(configuration: Configuration) -> None:
  """Prints the plan.

  Raises:
    UserError: no devices are named, no model runs, or the model or the mesh does not go with them.
  """
  settings = configuration.settings
  if not settings.topology:
    raise UserError(f"no devices to plan for: give --topology, {chips.EXAMPLES}")
  target = chips.parse(settings.topology)
  name, asked = most(configuration, target)
  if len(settings.recipes) > 1:
    say(f"of {', '.join(settings.recipes)}, the recipe {name} takes the most memory; --recipes plans another")
  if target.described and has_compiler():
    say("compiling each step for the TPU: minutes for a large model")
  print(report.text(asked, ask(asked)))


def most(configuration: Configuration, target: chips.Target) -> tuple[str, Asked]:
  """The recipe that takes the most memory, of those that run a model which is named.

  Raises:
    UserError: there is none.
  """
  words = configuration.settings.recipes or [DEFAULT_RECIPES[configuration.settings.objective]]
  names = [name for word in words for name in choice.expanded(word)]
  running = {name: recipe for name in names if (recipe := configuration.recipe(name)).runs_model}
  known = {name: recipe for name, recipe in running.items() if getattr(configuration.settings, recipe.model_setting)}
  if not running:
    raise UserError(f"nothing to plan: no model runs here for --recipes {','.join(words)}")
  made = {name: _asked(configuration, recipe, target) for name, recipe in (known or running).items()}
  return max(made.items(), key=lambda item: _numbers(item[1])) if len(made) > 1 else next(iter(made.items()))


def _asked(configuration: Configuration, recipe: Recipe, target: chips.Target) -> Asked:
  own = configuration.own(recipe)
  check_weights(own.settings, recipe)
  name = own.model_of(recipe)
  tuned = "adapter" if recipe.adapts else "all" if recipe.adapter == "full" else ""
  config = _config(own, name)
  check_dtype(config, name, own.settings.dtype)
  return Asked(target, name, config, own.settings, tuned, lora_config(own.settings, recipe))


def _numbers(asked: Asked) -> int:
  """That are held: the model's, its moments where all of it is tuned, else the adapter with its own."""
  import jax

  from fiat_jax.models import adapters
  from fiat_jax.models.family import family_of, module_for
  from fiat_jax.planning import least

  shapes = family_of(module_for(asked.config, asked.name, asked.settings.dtype)).shapes()
  fresh = lambda params: adapters.fresh(jax.random.key(0), params, asked.lora)  # noqa: E731
  tuned = {"all": shapes, "adapter": jax.eval_shape(fresh, shapes), "": {}}[asked.trains]
  return least.parameters(shapes) + 2 * least.parameters(tuned)


def _config(configuration: Configuration, name: str) -> Mapping[str, Any]:
  """The model's sizes: of a published one they are known, and its checkpoint need not be here."""
  from fiat_jax.models import catalogue

  if name in catalogue.MODELS:
    return catalogue.MODELS[name].config
  from fiat_jax.checkpoints.locate import locate
  from fiat_jax.checkpoints.source import open_checkpoint

  return open_checkpoint(locate(name, configuration.models.get(name)).weights).config
