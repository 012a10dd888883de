"""What the runs of one command share, made once: rows, tokenised shards, the pretrained models."""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fiat_jax import prompts, sharding
from fiat_jax.checkpoints import given_adapter
from fiat_jax.configuration import Configuration
from fiat_jax.data import marks, splits, tokenise, truncation
from fiat_jax.data.batches import Examples, Shard
from fiat_jax.data.corruption import CorruptedPieces, Corruption
from fiat_jax.data.dialogues import Dialogues
from fiat_jax.data.rows import Row, digest, read_rows
from fiat_jax.data.spilled import Spilled
from fiat_jax.data.tokenise import ShardSpec, Tokenising
from fiat_jax.data.truncation import Truncation
from fiat_jax.decoding.engine import Engine
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.models import pretrained
from fiat_jax.models.lora import EVERY_LINEAR, LoraConfig, init_adapter, targeted
from fiat_jax.models.pretrained import Description, Weights
from fiat_jax.progress import say
from fiat_jax.reasoning import forms
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.whole import write_whole


def lora_config(settings: Settings, recipe: Recipe) -> LoraConfig:
  s = settings
  return LoraConfig(
    rank=s.lora_rank,
    alpha=s.lora_alpha,
    scaling=s.lora_scaling,  # pyright: ignore[reportArgumentType]  checked when it is made
    dropout=s.lora_dropout,
    targets=s.lora_targets if recipe.adapted == "attention" else EVERY_LINEAR,
  )


def without_reasoning(recipe: Recipe) -> Recipe:
  """The form in which reasoning dropout gives a row."""
  return dataclasses.replace(recipe, reasoning=False)


def _prefix(recipe: Recipe) -> str:
  """What prompts for answers begin with, where a recipe's prompts ask for two things."""
  return prompts.PREDICT if recipe.distils else ""


class Workbench:
  """Rows are read and checked at once, weights when first needed.

  `prepare` comes before everything that needs a model: it starts tokenising in a process of its own.
  """

  def __init__(self, configuration: Configuration, *, labelled: bool = True):
    self.configuration, self.settings = configuration, configuration.settings
    self._labelled = labelled
    self.rows: dict[str, Spilled[Row]] = {
      split: read_rows(path, self.settings.layout, labelled=labelled) for split, path in self.settings.files().items()
    }
    self._recipes: list[Recipe] = []  # those that a model works for
    self._described: dict[str, Description] = {}  # by the setting that names it
    self._weights: list[Weights] = []  # one at most, and the same for all that `under` gives
    self._told: set[pathlib.Path] = set()
    self._forms: dict[str, Spilled[Row]] = {}  # rows with another reasoning than their own, by their paths
    truncate = "" if self.settings.chats else self.settings.truncate
    self._truncation = Truncation.parse(truncate, self.settings.source_length)
    if self._truncation:
      for rows in self.rows.values():
        self._truncation.check(rows[0].fields)

  def under(self, configuration: Configuration) -> Workbench:
    """The same bench, all that is on it shared, with other settings of training; rows and models are the same."""
    bench = copy.copy(self)
    bench.configuration, bench.settings = configuration, configuration.settings
    return bench

  def check_splits(self, folder: pathlib.Path) -> bool:
    """Whether `splits.json` in the run folder says which rows of DATA are in which split: those read here.

    Raises:
      UserError: it names others.
    """
    return bool(found := self._splits()) and splits.check(folder, found)

  def keep_splits(self, folder: pathlib.Path) -> None:
    """Writes `splits.json` where DATA is split, or checks the one that is there."""
    if not self.check_splits(folder) and (found := self._splits()):
      write_whole(folder / "splits.json", json.dumps(found, ensure_ascii=False) + "\n")

  def _splits(self) -> dict[str, Any] | None:
    files = self.settings.bare_files()
    whole = next((whole for whole, split in map(splits.parse, files.values()) if split), None)
    return splits.record(files, self.rows, digest(whole)) if whole else None

  def prepare(self, recipes: Sequence[Recipe]) -> None:
    """Reads the models' descriptions and starts to tokenise the rows in every form that the recipes read.

    Raises:
      UserError: a recipe needs reasoning and a row has none, or a model that is not given, not to be had, broken, or
        without a usable chat format.
    """
    self._recipes = [recipe for recipe in recipes if recipe.runs_model]
    for recipe in self._recipes:
      if self.settings.weights and recipe.adapter == "full":
        raise UserError(
          f"--weights {self.settings.weights}: {recipe.title} trains all weights, and what is quantized is frozen: "
          "leave --weights out, or choose --recipes that train an adapter"
        )
    for recipe in [*recipes, *self._dropped()]:
      self._require_reasoning(recipe)
      if not recipe.reads_rows:
        continue
      self.template(recipe)  # refused here, not in the tokenising process
    for recipe in self._recipes:
      if recipe.model_setting not in self._described:
        self._described[recipe.model_setting] = self._describe(recipe)
    reading = [recipe for recipe in self._recipes if recipe.reads_rows]
    if reading:
      specs = [self._spec(split, recipe) for recipe in reading for split in self.settings.files()]
      specs += [self._spec("train", recipe) for recipe in self._dropped()]
      specs += [self._spec("train", recipe, explains=True) for recipe in self._distilling()]
      self._tokenising = Tokenising(specs)

  def _describe(self, recipe: Recipe) -> Description:
    found, plain = self.configuration.located(recipe), self.configuration.plain(recipe)
    dtype, lora = self.settings.dtype, lora_config(self.settings, recipe)
    described = pretrained.describe(
      found.weights, dtype=dtype, lora=lora, plain=plain, tokenizer=found.tokenizer, kernels=self.settings.weights
    )
    marks.check_format(described.tokenizer, plain=plain)
    if self.settings.corrupts:
      Corruption.of(described.tokenizer)  # refused here, before anything is tokenised
    if self.settings.chats:
      marks.check_dialogues(described.tokenizer)
    return described

  def unaided(self, recipe: Recipe) -> Recipe | None:
    """The form in which its tuned model is asked where the big model is unavailable; None where it has no such form."""
    if not (recipe.trains and recipe.reasoning):
      return None
    try:
      self.template(without_reasoning(recipe))
    except UserError:  # x stands on one line with the reasoning
      return None
    return without_reasoning(recipe)

  def check(self) -> None:
    """Refuses what would fail later: before weights are read and before anything is written.

    Raises:
      UserError: a LoRA target that matches nothing, a row longer than a limit.
    """
    for recipe in self._recipes:
      if recipe.adapter == "lora":
        targeted(self.model(recipe).family.shapes(), lora_config(self.settings, recipe))
    for recipe in self._recipes:
      for split in self.rows if recipe.reads_rows else ():
        self.examples(split, recipe)
    for recipe in self._dropped():
      self.shard("train", recipe)
    for recipe in self._distilling():
      self.explained(recipe)

  def model(self, recipe: Recipe) -> Description:
    """What is known of the model that the recipe works on."""
    return self._described[recipe.model_setting]

  def params(self, recipe: Recipe) -> Mapping[str, Any]:
    """That model's weights, as they came. Those of the other model are let go of first."""
    return self._weights_of(recipe).params

  def let_go(self) -> None:
    """Of the weights, where another model needs the room; they are read again when they are needed."""
    self._weights.clear()

  def _weights_of(self, recipe: Recipe) -> Weights:
    if not self._weights or self._weights[0].of is not self.model(recipe):
      self._weights[:] = [Weights(self.model(recipe))]  # reads nothing yet: two models are not in memory together
    return self._weights[0]

  def new_adapter(self, recipe: Recipe, seed: int) -> dict[str, Any]:
    """A fresh adapter for that model, beside its kernels."""
    params = self.params(recipe)
    return sharding.beside(init_adapter(jax.random.key(seed), params, lora_config(self.settings, recipe)), params)

  def shard(self, split: str, recipe: Recipe) -> Shard:
    """The split's tokenised rows in the recipe's form, checked against the length limits.

    Raises:
      UserError: a prompt or a target is longer than its limit; how many, and the limit that would fit.
    """
    self._tokenising.wait()
    folder = self._spec(split, recipe).folder
    shard = Shard(folder)
    if self._truncation and folder not in self._told and (cut := tokenise.truncated(folder)):
      self._told.add(folder)
      say(f"{recipe.title}: the column {self._truncation.column!r} was cut in {cut} of {len(shard)} rows of {split}")
    empty = np.flatnonzero(shard.lengths("inputs") == 0)
    if empty.size:
      message = "the prompt has no tokens: fill in the row's input, or put words into --instruction"
      raise UserError(message, self.settings.file(split), self.rows[split][int(empty[0])].line)
    self._check_length(split, shard.lengths("inputs"), "source_length", "prompt")
    longest, room = int(shard.lengths("inputs").max()), self.model(recipe).family.room
    if room is not None and longest + self.settings.target_length > room:
      raise UserError(
        f"the longest prompt has {longest} tokens; with --target_length {self.settings.target_length} that is more "
        f"than the {room} that the model has places for: shorten the rows",
        self.settings.file(split),
      )
    if self._labelled:
      marks.check_targets(shard, self.model(recipe).tokenizer, self.rows[split], self.settings.file(split))
      if not set(self.settings.metrics) & set(metrics.TARGET_IS_NO_ANSWER):
        self._check_length(split, shard.lengths("targets"), "target_length", "target")
    return shard

  def explained(self, recipe: Recipe) -> Shard:
    """The training rows with their reasoning as the target, in the form in which the recipe learns to write it.

    Raises:
      UserError: a prompt or a reasoning is longer than its limit.
    """
    self._tokenising.wait()
    shard = Shard(self._spec("train", recipe, explains=True).folder)
    self._check_length("train", shard.lengths("inputs"), "source_length", "prompt")
    self._check_length("train", shard.lengths("targets"), "reasoning_length", "reasoning")
    return shard

  def read(self, split: str, recipe: Recipe) -> Spilled[Row]:
    """The split's rows as the recipe reads them: with the part of the reasoning that it is shown."""
    path = self._path(split, recipe)
    if path == self.settings.files()[split]:
      return self.rows[split]
    if path not in self._forms:
      self._forms[path] = read_rows(path, self.settings.layout, labelled=self._labelled)
    return self._forms[path]

  def examples(self, split: str, recipe: Recipe) -> Examples:
    """What is trained on, or judged by its loss: the split's shard, or pieces of its texts, corrupted.

    Raises:
      UserError: as `shard`, or a piece has more spans than the vocabulary has extra ids.
    """
    if not self.settings.by_loss:
      return self.shard(split, recipe)
    self._tokenising.wait()
    if self.settings.chats:
      return self._dialogues(split, recipe)
    return CorruptedPieces(self._spec(split, recipe).folder, Corruption.of(self.model(recipe).tokenizer))

  def _dialogues(self, split: str, recipe: Recipe) -> Dialogues:
    folder = self._spec(split, recipe).folder
    cut, gone = tokenise.truncated(folder), tokenise.left_out(folder)
    if folder not in self._told and (cut or gone):
      self._told.add(folder)
      say(f"{recipe.title}: of the chats of {split}, {cut} lose their last exchanges and {gone} are left out, too long")
    return Dialogues(folder)

  def truncated(self, recipe: Recipe) -> dict[str, dict[str, int]]:
    """What results say of rows of which TRUNCATE cut a column, by split; nothing where it is not set."""
    if not (self._truncation or self.settings.chats) or not recipe.reads_rows:
      return {}
    folders = {split: self._spec(split, recipe).folder for split in self.rows}
    found = {"truncated": {split: tokenise.truncated(folder) for split, folder in folders.items()}}
    if self.settings.chats:
      found["left_out"] = {split: tokenise.left_out(folder) for split, folder in folders.items()}
    return found

  def prompt(self, split: str, recipe: Recipe, number: int) -> str:
    """The exact string whose ids the model reads for a row."""
    (text,) = self._texts(recipe, [self.read(split, recipe)[number]])
    return self.model(recipe).tokenizer.prompt_string(text)

  def prompt_ids(self, recipe: Recipe, rows: Sequence[Row]) -> list[list[int]]:
    """The ids that the model reads for rows that are in no file."""
    return self.model(recipe).tokenizer.encode_prompts(self._texts(recipe, rows))

  def _texts(self, recipe: Recipe, rows: Sequence[Row]) -> list[str]:
    """Prompts without the chat's turn marks, cut where TRUNCATE says so."""
    template, xs = self.template(recipe), [row.x for row in rows]
    if self._truncation:
      xs = truncation.cut(rows, self.settings.layout, template, self.model(recipe).tokenizer, self._truncation)
    return [truncation.prompt_text(template, row, x) for row, x in zip(rows, xs, strict=True)]

  def engine(self, recipe: Recipe, trained: Any | None = None) -> Engine:
    """Decodes with the pretrained model and ADAPTER, or with `trained` in the place that the recipe trains."""
    model = self.model(recipe)
    if trained is None and self.settings.adapter:
      given = given_adapter.read(self.settings.adapter, model.family, lora_config(self.settings, recipe).scale)
      weights = model.family.with_adapter(self._weights_of(recipe).layers, given)
    elif trained is None:
      weights = self._weights_of(recipe).layers
    elif recipe.adapter == "full":
      weights = model.family.unstack(trained)
    else:
      weights = model.family.with_adapter(self._weights_of(recipe).layers, trained)
    stops, decode = model.tokenizer.stop_ids, model.tokenizer.decode
    return Engine(model.module, weights, stop_ids=stops, slots=self.settings.slots, decode=decode)

  def fingerprints(self, recipes: Iterable[Recipe]) -> dict[str, str]:
    """What these recipes' results depend on beside the settings: their models' fingerprints, each split's SHA-256."""
    return self.model_fingerprints(recipes) | {split: digest(path) for split, path in self.settings.files().items()}

  def model_fingerprints(self, recipes: Iterable[Recipe]) -> dict[str, str]:
    """Those of the weights that these recipes use, by the setting that names them."""
    used = dict.fromkeys(recipe.model_setting for recipe in recipes if recipe.runs_model)
    return {setting: self._described[setting].fingerprint for setting in used}

  def _path(self, split: str, recipe: Recipe) -> str:
    path = self.settings.files()[split]
    if not recipe.reasoning or recipe.reasoning_form == "whole":
      return path
    return forms.answers_of(path, self.rows[split], self.settings.answer)

  def _spec(self, split: str, recipe: Recipe, *, explains: bool = False) -> ShardSpec:
    tokenizer = self.model(recipe).tokenizer
    return ShardSpec(
      path=self._path(split, recipe),
      layout=self.settings.layout,
      instruction=self.settings.instruction,
      use_instruction=recipe.instruction,
      use_reasoning=recipe.reasoning,
      tokenizer=str(tokenizer.path),
      tokenizer_fingerprint=tokenizer.fingerprint,
      labelled=self._labelled,
      plain=not tokenizer.template_source,
      prefix=prompts.EXPLAIN if explains else _prefix(recipe),
      explains=explains,
      truncation=self._truncation,
      pieces=self.settings.source_length if self.settings.corrupts else 0,
      chats=self.settings.source_length if self.settings.chats else 0,
      shorten=self.settings.chats and self.settings.truncate == "turns",
    )

  def _dropped(self) -> list[Recipe]:
    """The forms that reasoning dropout needs of the training rows."""
    if not self.settings.reasoning_dropout or "train" not in self.settings.files():
      return []
    return [without_reasoning(recipe) for recipe in self._recipes if recipe.reasoning and recipe.trains]

  def template(self, recipe: Recipe) -> prompts.Template:
    """What a row's x and reasoning are put into, before the chat's turn marks."""
    return prompts.tuned_prompt(
      self.settings.instruction,
      use_instruction=recipe.instruction,
      use_reasoning=recipe.reasoning,
      prefix=_prefix(recipe),
    )

  def _distilling(self) -> list[Recipe]:
    return [recipe for recipe in self._recipes if recipe.distils and "train" in self.settings.files()]

  def _require_reasoning(self, recipe: Recipe) -> None:
    """Of a recipe that reads it with every row, or learns to write it from the training rows."""
    if not (recipe.needs_reasoning or recipe.distils):
      return
    for split, rows in self.rows.items():
      if recipe.distils and split != "train":
        continue
      missing = [row for row in rows if not row.reasoning]
      if missing and self.settings.store and len(missing) <= (1 - self.settings.completeness) * len(rows):
        say(f"warning: {len(missing)} of {len(rows)} rows of {split} have no reasoning in the store: theirs is empty")
      elif missing:
        raise UserError(
          f"{len(missing)} of {len(rows)} rows have no reasoning in {self._place_of_reasoning()}, which the "
          f"recipe {recipe.title!r} needs (the first is {missing[0].id!r}): name its column with --reasoning, or "
          "choose --recipes fine_tuning",
          self.settings.file(split),
          missing[0].line,
        )

  def _place_of_reasoning(self) -> str:
    s = self.settings
    return f"the store {s.store} (fiat annotate makes it)" if s.store else f"the column {s.reasoning!r}"

  def _check_length(self, split: str, lengths: np.ndarray, limit_name: str, what: str) -> None:
    limit = getattr(self.settings, limit_name)
    over = np.flatnonzero(lengths > limit)
    if over.size:
      raise UserError(
        f"{over.size} of {len(lengths)} rows have a {what} longer than --{limit_name} {limit}; the longest has "
        f"{lengths.max()} tokens: set --{limit_name} {lengths.max()}, or shorten them. Nothing is cut silently",
        self.settings.file(split),
        self.rows[split][int(over[0])].line,
      )
