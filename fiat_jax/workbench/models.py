"""The pretrained models of one command's recipes: described at once, their weights read when first needed."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from fiat_jax import sharding
from fiat_jax.checkpoints import given_adapter
from fiat_jax.configuration import Configuration
from fiat_jax.data import marks
from fiat_jax.data.corruption import Corruption
from fiat_jax.decoding.engine import Engine
from fiat_jax.errors import UserError
from fiat_jax.models import pretrained
from fiat_jax.models.lora import EVERY_LINEAR, LoraConfig, init_adapter, targeted
from fiat_jax.models.pretrained import Description, Weights
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings


def lora_config(settings: Settings, recipe: Recipe) -> LoraConfig:
  s = settings
  return LoraConfig(
    rank=s.lora_rank,
    alpha=s.lora_alpha,
    scaling=s.lora_scaling,  # pyright: ignore[reportArgumentType]  checked when it is made
    dropout=s.lora_dropout,
    targets=s.lora_targets if recipe.adapted == "attention" else EVERY_LINEAR,
  )


class Models:
  """Each recipe's model; two are not in memory together."""

  def __init__(self, configuration: Configuration):
    self._configuration, self._settings = configuration, configuration.settings
    self._described: dict[str, Description] = {}  # by the setting that names it
    self._others = {configuration.settings.model: self._described}  # of recipes with a MODEL of their own, by its name
    self._weights: list[Weights] = []  # one at most, and the same for all that `under` gives

  def under(self, configuration: Configuration) -> Models:
    """The same models with other settings of training."""
    models = copy.copy(self)
    models._configuration, models._settings = configuration, configuration.settings
    models._described = self._others.setdefault(configuration.settings.model, {})
    return models

  def describe(self, recipe: Recipe) -> None:
    """Reads what is known of the recipe's model without its weights, if that was not done yet.

    Raises:
      UserError: it is not given, not to be had, broken, or without a usable chat format; or the recipe trains all
        weights where these are to be quantized.
    """
    if self._settings.weights and recipe.adapter == "full":
      raise UserError(
        f"--weights {self._settings.weights}: {recipe.title} trains all weights, and what is quantized is frozen: "
        "leave --weights out, or choose --recipes that train an adapter"
      )
    if recipe.model_setting not in self._described:
      self._described[recipe.model_setting] = self._describe(recipe)

  def _describe(self, recipe: Recipe) -> Description:
    found, plain = self._configuration.located(recipe), self._configuration.plain(recipe)
    dtype, lora = self._settings.dtype, lora_config(self._settings, recipe)
    described = pretrained.describe(
      found.weights, dtype=dtype, lora=lora, plain=plain, tokenizer=found.tokenizer, kernels=self._settings.weights
    )
    marks.check_format(described.tokenizer, plain=plain)
    if self._settings.corrupts:
      Corruption.of(described.tokenizer)  # refused here, before anything is tokenised
    if self._settings.chats:
      marks.check_dialogues(described.tokenizer)
    return described

  def check_targets(self, recipe: Recipe) -> None:
    """Refuses a LoRA target that matches nothing, before weights are read."""
    if recipe.adapter == "lora":
      targeted(self.of(recipe).family.shapes(), lora_config(self._settings, recipe))

  def of(self, recipe: Recipe) -> Description:
    """What is known of the model that the recipe works on."""
    described, config = self._described[recipe.model_setting], lora_config(self._settings, recipe)
    if described.module.lora == config:
      return described
    return dataclasses.replace(described, module=described.module.clone(lora=config))

  def params(self, recipe: Recipe) -> Mapping[str, Any]:
    """That model's weights, as they came. Those of the other model are let go of first."""
    return self._held(recipe).params

  def let_go(self) -> None:
    """Of the weights, where another model needs the room; they are read again when they are needed."""
    self._weights.clear()

  def _held(self, recipe: Recipe) -> Weights:
    described = self._described[recipe.model_setting]
    if not self._weights or self._weights[0].of is not described:
      self._weights[:] = [Weights(described)]  # reads nothing yet
    return self._weights[0]

  def new_adapter(self, recipe: Recipe, seed: int) -> dict[str, Any]:
    """A fresh adapter for that model, beside its kernels."""
    params = self.params(recipe)
    return sharding.beside(init_adapter(jax.random.key(seed), params, lora_config(self._settings, recipe)), params)

  def engine(self, recipe: Recipe, trained: Any | None = None) -> Engine:
    """Decodes with the pretrained model and ADAPTER, or with `trained` in the place that the recipe trains."""
    model = self.of(recipe)
    if trained is None and self._settings.adapter:
      given = given_adapter.read(self._settings.adapter, model.family, lora_config(self._settings, recipe).scale)
      weights = model.family.with_adapter(self._held(recipe).layers, given)
    elif trained is None:
      weights = self._held(recipe).layers
    elif recipe.adapter == "full":
      weights = model.family.unstack(trained)
    else:
      weights = model.family.with_adapter(self._held(recipe).layers, trained)
    stops, decode = model.tokenizer.stop_ids, model.tokenizer.decode
    return Engine(model.module, weights, stop_ids=stops, slots=self._settings.slots, decode=decode)

  def fingerprints(self, recipes: Iterable[Recipe]) -> dict[str, str]:
    """Those of the weights that these recipes use, by the setting that names them."""
    used = dict.fromkeys(recipe.model_setting for recipe in recipes if recipe.runs_model)
    return {setting: self._described[setting].fingerprint for setting in used}
