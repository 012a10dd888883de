"""One command's rows, and its models, texts and shards beside them."""

from __future__ import annotations

import copy
import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from fiat_jax import processes
from fiat_jax.configuration import Configuration
from fiat_jax.data import splits
from fiat_jax.data.rows import Row, digest, read_rows
from fiat_jax.data.spilled import Spilled
from fiat_jax.data.tokenise import ShardSpec, Tokenising
from fiat_jax.errors import UserError
from fiat_jax.models.pretrained import Weights
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.whole import write_whole
from fiat_jax.workbench import columns
from fiat_jax.workbench.models import Models
from fiat_jax.workbench.shards import Shards
from fiat_jax.workbench.templates import Templates


class Workbench:
  """Rows are read and checked at once, weights when first needed.

  `prepare` comes before everything that needs a model: it starts tokenising in a process of its own. Several benches
  may have one such process: then `describe` comes before, and `shards.made_by`.
  """

  def __init__(self, configuration: Configuration, *, labelled: bool = True, weights: list[Weights] | None = None):
    self.configuration, self.settings = configuration, configuration.settings
    self.rows: dict[str, Spilled[Row]] = {
      split: read_rows(path, self.settings.layout, labelled=labelled) for split, path in self.settings.files().items()
    }
    self.answered: dict[Any, Any] = {}  # what `verbs/answered.py` knows; the same for all that `under` gives
    self._recipes: list[Recipe] = []  # those that a model works for
    self.models = Models(configuration, weights)
    self.templates = Templates(self.settings, self.models)
    self.shards = Shards(self.settings, self.rows, self.models, self.templates, labelled=labelled)

  def under(self, configuration: Configuration) -> Workbench:
    """The same bench, all that is on it shared, with other settings of training; rows and models are the same."""
    bench = copy.copy(self)
    bench.configuration, bench.settings = configuration, configuration.settings
    bench.models = self.models.under(configuration)
    bench.templates = self.templates.under(bench.settings, bench.models)
    bench.shards = self.shards.under(bench.settings, bench.models, bench.templates)
    return bench

  def of(self, recipe: Recipe) -> Workbench:
    """The same bench with the settings that are the recipe's own."""
    own = self.configuration.own(recipe)
    return self if own is self.configuration else self.under(own)

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
    whole = next((splits.root(path) for path in files.values() if splits.parse(path)[1]), None)
    return splits.record(files, self.rows, digest(whole)) if whole else None

  def prepare(self, recipes: Sequence[Recipe]) -> None:
    """Starts to tokenise the rows in every form that the recipes read. Raises UserError as `describe` does."""
    self.shards.made_by(Tokenising(self.describe(recipes)))

  def describe(self, recipes: Sequence[Recipe]) -> list[ShardSpec]:
    """Reads the models' descriptions and returns every form in which the recipes read the rows.

    Raises:
      UserError: a recipe needs reasoning and a row has none, several processes have not the same settings, rows or
        models, or as `Models.describe`.
    """
    self._recipes = [recipe for recipe in recipes if recipe.runs_model]
    for recipe in [*recipes, *self.shards.dropped(self._recipes)]:
      self._require_reasoning(recipe)
      if recipe.reads_rows:
        self.of(recipe).templates.of(recipe)  # refused here, not in the tokenising process
    for recipe in self._recipes:
      self.of(recipe).models.describe(recipe)
    if processes.count() > 1:
      settings = dataclasses.replace(self.settings, process=-1)  # of this task of a suite
      processes.check_same("the settings, the rows or the model", repr((settings, self.fingerprints(self._recipes))))
    return [spec for r in self._recipes if r.reads_rows for spec in self.of(r).shards.specs([r])]

  def check(self, recipes: Sequence[Recipe] = ()) -> None:
    """Refuses what would fail later, of these recipes or all: before weights are read and before anything is written.

    Raises:
      UserError: a LoRA target that matches nothing, a row longer than a limit.
    """
    if doubt := columns.differing(self.rows):
      say(f"warning: {doubt} with --input")
    for recipe in recipes or self._recipes:
      own = self.of(recipe)
      own.models.check_training(recipe)
      own.shards.check([recipe])

  def fingerprints(self, recipes: Iterable[Recipe]) -> dict[str, str]:
    """What these recipes' results depend on beside the settings: their models' fingerprints, each split's SHA-256."""
    found = {split: digest(path) for split, path in self.settings.files().items()}
    for recipe in recipes:
      own = self.of(recipe)
      name = "" if own.settings.model == self.settings.model else f" {own.settings.model}"
      found |= {f"{setting}{name}": value for setting, value in own.models.fingerprints([recipe]).items()}
    return found

  def bare_fingerprints(self) -> dict[str, str]:
    """Each split's SHA-256 without the reasoning of STORE."""
    return {split: digest(path) for split, path in self.settings.bare_files().items()}

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
