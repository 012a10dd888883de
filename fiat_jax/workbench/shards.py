"""The rows of one command as its recipes read them: tokenised once in each form, checked against the limits."""

from __future__ import annotations

import copy
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from fiat_jax import prompts
from fiat_jax.data import marks, tokenise
from fiat_jax.data.batches import Examples, Shard
from fiat_jax.data.corruption import CorruptedPieces, Corruption
from fiat_jax.data.dialogues import Dialogues
from fiat_jax.data.rows import Row, read_rows
from fiat_jax.data.spilled import Spilled
from fiat_jax.data.tokenise import ShardSpec, Tokenising
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.progress import say
from fiat_jax.reasoning import forms
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.workbench.models import Models
from fiat_jax.workbench.templates import Templates, prefix, without_reasoning

QUANTILES = {"median": 0.5, "99 %": 0.99, "longest": 1.0}  # of lengths, for a report


class Shards:
  """Each split's in each recipe's form. `made_by` comes before everything else: a process of its own tokenises."""

  def __init__(
    self, settings: Settings, rows: Mapping[str, Spilled[Row]], models: Models, templates: Templates, *, labelled: bool
  ):
    self._settings, self._rows, self._models, self._templates = settings, rows, models, templates
    self._labelled = labelled
    self._told: set[pathlib.Path] = set()
    self._tokenising: list[Tokenising] = []  # one at most, and the same for all that `under` gives
    self._forms: dict[str, Spilled[Row]] = {}  # rows with another reasoning than their own, by their paths
    if templates.truncation:
      for found in rows.values():
        templates.truncation.check(found[0].fields)

  def under(self, settings: Settings, models: Models, templates: Templates) -> Shards:
    """The same shards with other settings of training."""
    shards = copy.copy(self)
    shards._settings, shards._models, shards._templates = settings, models, templates
    return shards

  def specs(self, recipes: Sequence[Recipe]) -> list[ShardSpec]:
    """Every form in which these recipes read the rows."""
    specs = [self._spec(split, recipe) for recipe in recipes for split in self._settings.files()]
    specs += [self._spec("train", recipe) for recipe in self.dropped(recipes)]
    specs += [self._spec("train", recipe, explains=True) for recipe in self._distilling(recipes)]
    return specs

  def made_by(self, tokenising: Tokenising) -> None:
    """Says which process tokenises the rows, in every form that is asked for."""
    self._tokenising[:] = [tokenising]

  def _wait(self) -> None:
    for tokenising in self._tokenising:
      tokenising.wait()

  def check(self, recipes: Sequence[Recipe]) -> None:
    """Refuses rows longer than a limit, in every form that is read."""
    for recipe in recipes:
      for split in self._rows if recipe.reads_rows else ():
        self.examples(split, recipe)
    for recipe in self.dropped(recipes):
      self.of("train", recipe)
    for recipe in self._distilling(recipes):
      self.explained(recipe)

  def of(self, split: str, recipe: Recipe) -> Shard:
    """The split's tokenised rows in the recipe's form, checked against the length limits.

    Raises:
      UserError: a prompt or a target is longer than its limit; how many, and the limit that would fit.
    """
    self._wait()
    folder = self._spec(split, recipe).folder
    shard = Shard(folder)
    truncation = self._templates.truncation
    if truncation and folder not in self._told and (cut := tokenise.truncated(folder)):
      self._told.add(folder)
      say(f"{recipe.title}: the column {truncation.column!r} was cut in {cut} of {len(shard)} rows of {split}")
    empty = np.flatnonzero(shard.lengths("inputs") == 0)
    if empty.size:
      message = "the prompt has no tokens: fill in the row's input, or put words into --instruction"
      raise UserError(message, self._settings.file(split), self._rows[split][int(empty[0])].line)
    self._check_length(split, shard.lengths("inputs"), "source_length", "prompt")
    longest, room = int(shard.lengths("inputs").max()), self._models.of(recipe).family.room
    longest += self._models.virtual(recipe)
    if room is not None and longest + self._settings.target_length > room:
      raise UserError(
        f"the longest prompt has {longest} tokens; with --target_length {self._settings.target_length} that is more "
        f"than the {room} that the model has places for: shorten the rows",
        self._settings.file(split),
      )
    if self._labelled:
      marks.check_targets(shard, self._models.of(recipe).tokenizer, self._rows[split], self._settings.file(split))
      if not set(self._settings.metrics) & set(metrics.TARGET_IS_NO_ANSWER):
        self._check_length(split, shard.lengths("targets"), "target_length", "target")
    return shard

  def explained(self, recipe: Recipe) -> Shard:
    """The training rows with their reasoning as the target, in the form in which the recipe learns to write it.

    Raises:
      UserError: a prompt or a reasoning is longer than its limit.
    """
    self._wait()
    shard = Shard(self._spec("train", recipe, explains=True).folder)
    self._check_length("train", shard.lengths("inputs"), "source_length", "prompt")
    self._check_length("train", shard.lengths("targets"), "reasoning_length", "reasoning")
    return shard

  def read(self, split: str, recipe: Recipe) -> Spilled[Row]:
    """The split's rows as the recipe reads them: with the part of the reasoning that it is shown."""
    path = self._path(split, recipe)
    if path == self._settings.files()[split]:
      return self._rows[split]
    if path not in self._forms:
      self._forms[path] = read_rows(path, self._settings.layout, labelled=self._labelled)
    return self._forms[path]

  def examples(self, split: str, recipe: Recipe) -> Examples:
    """What is trained on, or judged by its loss: the split's shard, or pieces of its texts, corrupted.

    Raises:
      UserError: as `shard`, or a piece has more spans than the vocabulary has extra ids.
    """
    if not self._settings.by_loss:
      return self.of(split, recipe)
    self._wait()
    if self._settings.chats:
      return self._dialogues(split, recipe)
    return CorruptedPieces(self._spec(split, recipe).folder, Corruption.of(self._models.of(recipe).tokenizer))

  def _dialogues(self, split: str, recipe: Recipe) -> Dialogues:
    folder = self._spec(split, recipe).folder
    cut, gone = tokenise.truncated(folder), tokenise.left_out(folder)
    if folder not in self._told and (cut or gone):
      self._told.add(folder)
      say(f"{recipe.title}: of the chats of {split}, {cut} lose their last exchanges and {gone} are left out, too long")
    return Dialogues(folder)

  def truncated(self, recipe: Recipe) -> dict[str, dict[str, int]]:
    """What results say of rows of which TRUNCATE cut a column, by split; nothing where it is not set."""
    if not (self._templates.truncation or self._settings.chats) or not recipe.reads_rows:
      return {}
    folders = {split: self._spec(split, recipe).folder for split in self._rows}
    found = {"truncated": {split: tokenise.truncated(folder) for split, folder in folders.items()}}
    if self._settings.chats:
      found["left_out"] = {split: tokenise.left_out(folder) for split, folder in folders.items()}
    return found

  def lengths(self, recipe: Recipe) -> dict[str, dict[str, int]]:
    """Tokens of the prompts and of the targets, end mark included, over all splits."""
    found = [self.of(split, recipe) for split in self._rows]
    return {
      what: {name: int(np.quantile(tokens, share, method="inverted_cdf")) for name, share in QUANTILES.items()}
      for what in ("inputs", "targets")
      for tokens in [np.concatenate([shard.lengths(what) for shard in found])]
    }

  def _path(self, split: str, recipe: Recipe) -> str:
    path = self._settings.files()[split]
    if not recipe.reasoning or recipe.reasoning_form == "whole":
      return path
    s = self._settings
    return forms.path_of(path, self._rows[split], recipe.reasoning_form, s.answer, s.split_seed, s.labels)

  def _spec(self, split: str, recipe: Recipe, *, explains: bool = False) -> ShardSpec:
    tokenizer = self._models.of(recipe).tokenizer
    return ShardSpec(
      path=self._path(split, recipe),
      layout=self._settings.layout,
      instruction=self._settings.instruction,
      use_instruction=recipe.instruction,
      use_reasoning=recipe.reasoning,
      tokenizer=str(tokenizer.path),
      tokenizer_fingerprint=tokenizer.fingerprint,
      labelled=self._labelled,
      plain=not tokenizer.template_source,
      prefix=prompts.EXPLAIN if explains else prefix(recipe),
      explains=explains,
      truncation=self._templates.truncation,
      pieces=self._settings.source_length if self._settings.corrupts else 0,
      chats=self._settings.source_length if self._settings.chats else 0,
      shorten=self._settings.chats and self._settings.truncate == "turns",
    )

  def dropped(self, recipes: Sequence[Recipe]) -> list[Recipe]:
    """The forms that reasoning dropout needs of the training rows."""
    if not self._settings.reasoning_dropout or "train" not in self._settings.files():
      return []
    return [without_reasoning(recipe) for recipe in recipes if recipe.reasoning and recipe.trains]

  def _distilling(self, recipes: Sequence[Recipe]) -> list[Recipe]:
    return [recipe for recipe in recipes if recipe.distils and "train" in self._settings.files()]

  def _check_length(self, split: str, lengths: np.ndarray, limit_name: str, what: str) -> None:
    limit = getattr(self._settings, limit_name)
    over = np.flatnonzero(lengths > limit)
    if over.size:
      raise UserError(
        f"{over.size} of {len(lengths)} rows have a {what} longer than --{limit_name} {limit}; the longest has "
        f"{lengths.max()} tokens: set --{limit_name} {lengths.max()}, or shorten them. Nothing is cut silently",
        self._settings.file(split),
        self._rows[split][int(over[0])].line,
      )
