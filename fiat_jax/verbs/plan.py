"""`fiat plan`: whether a run would fit on devices that are not here, and what its steps would cost there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.models.pretrained import DTYPES
from fiat_jax.planning import chips, report
from fiat_jax.planning.child import ask, has_compiler
from fiat_jax.planning.records import Asked
from fiat_jax.progress import say
from fiat_jax.verbs.train import one_recipe
from fiat_jax.workbench import lora_config


def main(configuration: Configuration) -> None:
  """Prints the plan.

  Raises:
    UserError: no devices are named, or the model, the mesh or the recipe does not go with them.
  """
  settings = configuration.settings
  if not settings.topology:
    raise UserError(f"no devices to plan for: give --topology, {chips.EXAMPLES}")
  target = chips.parse(settings.topology)
  if settings.dtype not in DTYPES:
    raise UserError(f"the dtype {settings.dtype!r} is not supported: give one of {', '.join(DTYPES)}")
  recipe = configuration.recipe(one_recipe(settings))
  name = configuration.model_of(recipe)
  tuned = "adapter" if recipe.adapts else "all" if recipe.adapter == "full" else ""
  asked = Asked(target, name, _config(configuration, name), settings, tuned, lora_config(settings, recipe))
  if target.described and has_compiler():
    say("compiling each step for the TPU: minutes for a large model")
  print(report.text(asked, ask(asked)))


def _config(configuration: Configuration, name: str) -> Mapping[str, Any]:
  """The model's sizes: of a published one they are known, and its checkpoint need not be here."""
  from fiat_jax.models import catalogue

  if name in catalogue.MODELS:
    return catalogue.MODELS[name].config
  from fiat_jax.checkpoints.locate import locate
  from fiat_jax.checkpoints.source import open_checkpoint

  return open_checkpoint(locate(name, configuration.models.get(name)).weights).config
