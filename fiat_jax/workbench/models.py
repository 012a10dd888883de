"""The pretrained models of one command's recipes: described at once, their weights read when first needed."""

from __future__ import annotations

import copy
import dataclasses
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax import sharding
from fiat_jax.checkpoints import given_adapter, peft
from fiat_jax.checkpoints.given_adapter import Given
from fiat_jax.checkpoints.locate import public_name
from fiat_jax.configuration import Configuration
from fiat_jax.data import marks
from fiat_jax.data.corruption import Corruption
from fiat_jax.decoding.engine import Engine
from fiat_jax.errors import UserError
from fiat_jax.models import adapters, pretrained, published
from fiat_jax.models.lora import EVERY_LINEAR, LoraConfig, targeted
from fiat_jax.models.pretrained import Description, Weights
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.training.module import for_training


def lora_config(settings: Settings, recipe: Recipe) -> LoraConfig:
  """The adapter that a recipe tunes; of one that tunes none, what LoRA would be."""
  s, linear = settings, recipe.adapted == "linear"
  kind = recipe.adapter if recipe.adapter in ("dora", "ia3", "prompt") else "lora"
  targets = adapters.IA3_TARGETS if kind == "ia3" else EVERY_LINEAR if linear else s.lora_targets
  return LoraConfig(
    kind=kind,
    rank=s.lora_rank,
    alpha=s.lora_alpha,
    scaling="root_rank" if recipe.adapter == "rslora" else s.lora_scaling,  # pyright: ignore[reportArgumentType]  checked when it is made
    dropout=s.lora_dropout,
    targets=targets,
    prompt_tokens=s.prompt_tokens,
  )


def check_weights(settings: Settings, recipe: Recipe) -> None:
  """Raises UserError where weights are to be quantized that the recipe trains."""
  if settings.weights and recipe.adapter == "full":
    raise UserError(
      f"--weights {settings.weights}: {recipe.title} trains all weights, and what is quantized is frozen: "
      "leave --weights out, or choose --recipes that train an adapter"
    )


MASTER = jnp.float32  # of weights that are all trained
KINDS = {"lora": "LoRA", "rslora": "rsLoRA", "dora": "DoRA", "ia3": "IA3", "prompt": "a soft prompt"}


class Models:
  """Each recipe's model; two are not in memory together."""

  def __init__(self, configuration: Configuration, weights: list[Weights] | None = None):
    """`weights`: those in memory, one model's at most; commands that share the list read a model once."""
    self._configuration, self._settings = configuration, configuration.settings
    self._described: dict[str, Description] = {}  # by the setting that names it
    self._given: dict[tuple[str, str], Given] = {}
    self._others = {configuration.settings.model: self._described}  # of recipes with a MODEL of their own, by its name
    self._weights = [] if weights is None else weights  # the same for all that `under` gives

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
    check_weights(self._settings, recipe)
    if recipe.model_setting not in self._described:
      self._described[recipe.model_setting] = self._describe(recipe)

  def _describe(self, recipe: Recipe) -> Description:
    found, plain = self._configuration.located(recipe), self._configuration.plain(recipe)
    dtype, lora = self._settings.dtype, lora_config(self._settings, recipe)
    described = pretrained.describe(
      found.weights, dtype=dtype, lora=lora, plain=plain, tokenizer=found.tokenizer, kernels=self._settings.weights
    )
    published.check_t5x(self._configuration.model_of(recipe), described)
    marks.check_format(described.tokenizer, plain=plain)
    if self._settings.corrupts:
      Corruption.of(described.tokenizer)  # refused here, before anything is tokenised
    if self._settings.chats:
      marks.check_dialogues(described.tokenizer)
    return described

  def check_training(self, recipe: Recipe) -> None:
    """Refuses what training would refuse later, before weights are read.

    Raises:
      UserError: attention that is not to be had, an ADAPTER of another kind or base, a LoRA target without a match.
    """
    if recipe.trains:
      for_training(self.of(recipe).module, self._settings)
      self.given(recipe)
    if recipe.adapts and recipe.adapter != "prompt":
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

  def masters(self, recipe: Recipe) -> Any:
    """A copy of all that model's weights to be trained: in f32, whatever the model computes in, for an update is often
    smaller than what bf16 can add to a weight."""
    return jax.tree.map(lambda leaf: jnp.array(leaf, MASTER, copy=True), self.params(recipe))

  def shapes(self, recipe: Recipe) -> Any:
    """The tree of `masters` as shapes, with their places; nothing is read."""
    family = self._described[recipe.model_setting].family
    lies = sharding.of_params(family)
    if lies is None:
      return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, MASTER), family.shapes())
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, MASTER, sharding=at), family.shapes(), lies)

  def _computed(self, recipe: Recipe, masters: Any) -> Any:
    """The same in the dtype that the model computes in."""
    dtype = jnp.dtype(self._described[recipe.model_setting].module.config.dtype)
    return jax.tree.map(lambda leaf: leaf.astype(dtype), masters)

  def let_go(self) -> None:
    """Of the weights, where another model needs the room; they are read again when they are needed."""
    self._weights.clear()

  def _held(self, recipe: Recipe) -> Weights:
    described = self._described[recipe.model_setting]
    if not self._weights or not self._weights[0].are_of(described):
      self._weights[:] = [Weights(described)]  # reads nothing yet
    return self._weights[0]

  def new_adapter(self, recipe: Recipe, seed: int) -> dict[str, Any]:
    """The adapter that training begins with, beside that model's kernels: ADAPTER, or a fresh one.

    Raises:
      UserError: ADAPTER is of another kind than the recipe trains.
    """
    params, given = self.params(recipe), self.given(recipe)
    if given:
      return sharding.beside(jax.tree.map(jnp.asarray, dict(given.tree)), params)
    scaled = getattr(self.of(recipe).module.config, "scaled_embedding", False)
    scale = params["embedding"].shape[1] ** 0.5 if scaled else 1.0
    config = lora_config(self._settings, recipe)
    return sharding.beside(adapters.fresh(jax.random.key(seed), params, config, embedding_scale=scale), params)

  def given(self, recipe: Recipe) -> Given | None:
    """ADAPTER, where one is named: what the recipe begins with, or, of one that tunes nothing, what it answers with.

    Raises:
      UserError: it cannot be read, is of another base, or of another kind than the recipe trains.
    """
    named = self._settings.adapter
    if not named:
      return None
    described = self._described[recipe.model_setting]
    if (key := (named, described.path)) not in self._given:
      self._given[key] = given_adapter.read(named, described.family, described.fingerprint)
    given = self._given[key]
    if recipe.trains and given.kind != recipe.adapter.removeprefix("rs"):
      trains = KINDS.get(recipe.adapter, "all weights")
      raise UserError(
        f"--adapter {named}: it is {KINDS[given.kind]}, and {recipe.title} trains {trains}: choose --recipes of its "
        "kind"
      )
    return given

  def virtual(self, recipe: Recipe) -> int:
    """How many places a soft prompt takes before each of the recipe's inputs."""
    if recipe.adapter != "prompt":
      return 0
    given = self.given(recipe)
    return len(given.tree[adapters.PROMPT]) if given else self._settings.prompt_tokens

  def scales(self, recipe: Recipe) -> dict[str, Any]:
    """The collection `lora_scale`, where ADAPTER's scales are not the configuration's; else nothing."""
    given, scale = self.given(recipe), lora_config(self._settings, recipe).scale
    if not given or all((leaf == np.float32(scale)).all() for leaf in jax.tree.leaves(given.scales)):
      return {}
    whole = jnp.asarray if sharding.mesh() is None else lambda leaf: sharding.place(leaf, sharding.everywhere())
    return jax.tree.map(whole, dict(given.scales))

  def variables(self, recipe: Recipe, trained: Any | None) -> dict[str, Any]:
    """The collections that the recipe's module is applied to, with `trained` in the place that it trains."""
    if recipe.adapter == "full" and trained is not None:
      return {"params": trained}
    scales = self.scales(recipe) if recipe.adapts else {}
    found = {"params": self.params(recipe)} | ({"lora_scale": scales} if scales else {})
    return found if trained is None else found | {"lora": trained}

  def merged(self, recipe: Recipe, trained: Any) -> Mapping[str, Any]:
    """That model's weights with the adapter that the recipe trained folded in; all weights that it trained.

    What decoding made of the weights is let go of first: the model is held once, beside the kernels that change.
    """
    self.let_go()
    if not recipe.adapts:
      return self._computed(recipe, trained)
    params, scales = self.params(recipe), self.scales(recipe)
    self.let_go()
    return adapters.merge(params, trained, lora_config(self._settings, recipe), scales, consumes=True)

  def write_adapter(self, recipe: Recipe, trained: Any, folder: pathlib.Path) -> None:
    """Writes what the recipe trained in PEFT's format."""
    described, config, given = self.of(recipe), lora_config(self._settings, recipe), self.given(recipe)
    if given:
      config = dataclasses.replace(config, scaling="root_rank" if given.root_rank else "rank")
    base = public_name(described.path)
    ranks, of = given.ranks if given else None, described.fingerprint
    peft.write_adapter(folder, trained, described.family, config, base, fingerprint=of, ranks=ranks)

  def engine(self, recipe: Recipe, trained: Any | None = None) -> Engine:
    """Decodes with the pretrained model and ADAPTER, or with `trained` in the place that the recipe trains."""
    model, given = self.of(recipe), self.given(recipe)
    if recipe.adapter == "full" and trained is not None:
      weights = model.family.unstack(self._computed(recipe, trained))
    elif trained is None and (recipe.trains or not given):
      weights = self._held(recipe).layers()
    else:
      tree: Any = trained
      if given and trained is None:
        tree = sharding.beside(jax.tree.map(jnp.asarray, dict(given.tree)), self.params(recipe))
      config = lora_config(self._settings, recipe)
      tree = adapters.settled(self.params(recipe), tree, config, self.scales(recipe))
      weights = model.family.with_adapter(self._held(recipe).layers(), tree)
    stops, decode = model.tokenizer.stop_ids, model.tokenizer.decode
    return Engine(model.module, weights, stop_ids=stops, slots=self._settings.slots, decode=decode)

  def fingerprints(self, recipes: Iterable[Recipe]) -> dict[str, str]:
    """Those of the weights that these recipes use, by the setting that names them."""
    used = dict.fromkeys(recipe.model_setting for recipe in recipes if recipe.runs_model)
    found = {setting: self._described[setting].fingerprint for setting in used}
    return found | ({"adapter": given_adapter.digest(self._settings.adapter)} if self._settings.adapter else {})
