"""What the runs of one command share, made once: rows, tokenised shards, the pretrained model."""

from __future__ import annotations

import dataclasses
import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiat_jax import prompts
from fiat_jax.checkpoints.locate import locate
from fiat_jax.configuration import Configuration
from fiat_jax.data import marks, splits, tokenise, truncation
from fiat_jax.data.batches import Shard
from fiat_jax.data.rows import Row, digest, read_rows
from fiat_jax.data.spilled import Spilled
from fiat_jax.data.tokenise import ShardSpec, Tokenising
from fiat_jax.data.truncation import Truncation
from fiat_jax.decoding.engine import Engine
from fiat_jax.errors import UserError
from fiat_jax.models import pretrained
from fiat_jax.models.lora import LoraConfig, targeted
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.whole import write_whole


def lora_config(settings: Settings) -> LoraConfig:
  s = settings
  return LoraConfig(
    rank=s.lora_rank,
    alpha=s.lora_alpha,
    scaling=s.lora_scaling,  # pyright: ignore[reportArgumentType]  checked when it is made
    dropout=s.lora_dropout,
    targets=s.lora_targets,
  )


def without_reasoning(recipe: Recipe) -> Recipe:
  """The form in which reasoning dropout gives a row."""
  return dataclasses.replace(recipe, reasoning=False)


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
    self._models: list[Recipe] = []
    self._told: set[pathlib.Path] = set()
    self._truncation = Truncation.parse(self.settings.truncate, self.settings.source_length)
    if self._truncation:
      for rows in self.rows.values():
        self._truncation.check(rows[0].fields)

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
    """Reads the model's description and starts to tokenise the rows in every form that the recipes read.

    Raises:
      UserError: a recipe needs reasoning and a row has none, or the model is not to be had, broken, or has no usable
        chat format.
    """
    self._models = [recipe for recipe in recipes if not recipe.answer_of_beta]
    for recipe in [*recipes, *self._dropped()]:
      self._require_reasoning(recipe)
      self._template(recipe)  # refused here, not in the tokenising process
    if self._models:
      found = locate(self.settings.model, self.configuration.models.get(self.settings.model))
      self.described = pretrained.describe(
        found.weights,
        dtype=self.settings.dtype,
        lora=lora_config(self.settings),
        plain=self.settings.plain,
        tokenizer=found.tokenizer,
      )
      marks.check_format(self.described.tokenizer, plain=self.settings.plain)
      specs = [self._spec(split, recipe) for recipe in self._models for split in self.settings.files()]
      self._tokenising = Tokenising(specs + [self._spec("train", recipe) for recipe in self._dropped()])

  def check(self) -> None:
    """Refuses what would fail later: before weights are read and before anything is written.

    Raises:
      UserError: a LoRA target that matches nothing, a row longer than a limit.
    """
    if any(recipe.adapter == "lora" for recipe in self._models):
      targeted(self.described.family.shapes(), lora_config(self.settings))
    for recipe in self._models:
      for split in self.rows:
        self.shard(split, recipe)
    for recipe in self._dropped():
      self.shard("train", recipe)

  @functools.cached_property
  def params(self) -> Mapping[str, Any]:
    return pretrained.load(self.described)

  @functools.cached_property
  def _layers(self) -> Mapping[str, Any]:
    return self.described.family.unstack(self.params)

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
    longest, room = int(shard.lengths("inputs").max()), self.described.family.room
    if room is not None and longest + self.settings.target_length > room:
      raise UserError(
        f"the longest prompt has {longest} tokens; with --target_length {self.settings.target_length} that is more "
        f"than the {room} that the model has places for: shorten the rows",
        self.settings.file(split),
      )
    if self._labelled:
      marks.check_targets(shard, self.described.tokenizer, self.rows[split], self.settings.file(split))
      self._check_length(split, shard.lengths("targets"), "target_length", "target")
    return shard

  def truncated(self, recipe: Recipe) -> dict[str, dict[str, int]]:
    """What results say of rows of which TRUNCATE cut a column, by split; nothing where it is not set."""
    if not self._truncation or recipe.answer_of_beta:
      return {}
    folders = {split: self._spec(split, recipe).folder for split in self.rows}
    return {"truncated": {split: tokenise.truncated(folder) for split, folder in folders.items()}}

  def prompt(self, split: str, recipe: Recipe, number: int) -> str:
    """The exact string whose ids the model reads for a row."""
    row = self.rows[split][number]
    template, tokenizer, x = self._template(recipe), self.described.tokenizer, row.x
    if self._truncation:
      (x,) = truncation.cut([row], self.settings.layout, template, tokenizer, self._truncation)
    return tokenizer.prompt_string(truncation.prompt_text(template, row, x))

  def engine(self, recipe: Recipe, trained: Any | None = None) -> Engine:
    """Decodes with the pretrained model, or with `trained` in the place that the recipe trains."""
    family = self.described.family
    if trained is None:
      weights = self._layers
    elif recipe.adapter == "full":
      weights = family.unstack(trained)
    else:
      weights = family.with_adapter(self._layers, trained)
    return Engine(self.described.module, weights, stop_ids=self.described.tokenizer.stop_ids, slots=self.settings.slots)

  def fingerprints(self) -> dict[str, str]:
    """What the results depend on beside the settings: the model's fingerprint and each split's SHA-256."""
    model = {"model": self.described.fingerprint} if self._models else {}
    return model | {split: digest(path) for split, path in self.settings.files().items()}

  def _spec(self, split: str, recipe: Recipe) -> ShardSpec:
    return ShardSpec(
      path=self.settings.files()[split],
      layout=self.settings.layout,
      instruction=self.settings.instruction,
      use_instruction=recipe.instruction,
      use_reasoning=recipe.reasoning,
      tokenizer=str(self.described.tokenizer.path),
      tokenizer_fingerprint=self.described.tokenizer.fingerprint,
      labelled=self._labelled,
      plain=self.settings.plain,
      truncation=self._truncation,
    )

  def _dropped(self) -> list[Recipe]:
    """The forms that reasoning dropout needs of the training rows."""
    if not self.settings.reasoning_dropout or "train" not in self.settings.files():
      return []
    return [without_reasoning(recipe) for recipe in self._models if recipe.reasoning and recipe.trains]

  def _template(self, recipe: Recipe) -> prompts.Template:
    return prompts.tuned_prompt(
      self.settings.instruction, use_instruction=recipe.instruction, use_reasoning=recipe.reasoning
    )

  def _require_reasoning(self, recipe: Recipe) -> None:
    if not recipe.needs_reasoning:
      return
    for split, rows in self.rows.items():
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
