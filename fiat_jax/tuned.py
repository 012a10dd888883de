"""A run's tuned model in Python: `fiat_jax.load`."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from fiat_jax import configuration, runtime
from fiat_jax.data.row import Row, row_of
from fiat_jax.decoding.request import Request
from fiat_jax.errors import UserError
from fiat_jax.evaluation.evaluate import label_scores
from fiat_jax.exports import deployment
from fiat_jax.reasoning import forms
from fiat_jax.recipe import Recipe
from fiat_jax.run_folder import configuration_of
from fiat_jax.verbs.best import restore_best
from fiat_jax.verbs.train import one_recipe
from fiat_jax.workbench import Workbench, columns


class Tuned:
  """Answers rows as `fiat predict` does, greedily; what the run was told of columns, prompts and lengths holds."""

  def __init__(self, bench: Workbench, recipe: Recipe, trained: Any | None):
    self._bench, self._recipe = bench, recipe
    self._engine = bench.models.engine(recipe, trained)

  def predict(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The answers, in the rows' order.

    Args:
      rows: columns by name, as the run's files had them; no target. Where the run read the big model's reasoning, each
        has it in the run's column for it, `reasoning` unless it was named otherwise.

    Raises:
      UserError: a row lacks a column, or its prompt is longer than the run's SOURCE_LENGTH.
    """
    found = [self._row(record, number) for number, record in enumerate(rows, 1)]
    settings, tokenizer = self._bench.settings, self._bench.models.of(self._recipe).tokenizer
    if self._recipe.reasoning and self._recipe.reasoning_form != "whole":
      texts = forms.texts(found, self._recipe.reasoning_form, settings.answer, settings.split_seed)
      found = [dataclasses.replace(row, reasoning=text) for row, text in zip(found, texts, strict=True)]
    prompts = self._bench.templates.prompt_ids(self._recipe, found)
    for row, ids in zip(found, prompts, strict=True):
      if len(ids) > settings.source_length:
        raise UserError(f"row {row.line} has a prompt of {len(ids)} tokens, and the run reads {settings.source_length}")
    if settings.labels:
      scored = [label_scores(self._engine, tokenizer, row.labels, ids) for row, ids in zip(found, prompts, strict=True)]
      return [max(scores, key=scores.__getitem__) for scores in scored]
    requests = [Request(tokens=ids, max_new_tokens=settings.target_length) for ids in prompts]
    return [tokenizer.decode(answer.tokens).strip() for answer in self._engine.generate(requests)]

  def _row(self, record: Mapping[str, Any], number: int) -> Row:
    if not isinstance(record, Mapping):
      raise UserError(f"row {number} is a {type(record).__name__}: give a list of mappings, columns by name")
    row = row_of(dict(record), self._bench.settings.layout, pathlib.Path("rows"), number, labelled=False)
    if self._recipe.reasoning and row.reasoning is None:
      raise UserError(
        f"row {number} has no {self._bench.settings.reasoning!r}: this model reads the big model's reasoning"
      )
    return row


def load(run: str | os.PathLike[str], *, model: str = "") -> Tuned:
  """The tuned model of a run folder that `fiat train` wrote, of one recipe in that of `fiat compare`, or of an export.

  Args:
    run: the folder. Of exports those of the formats peft and huggingface.
    model: the base of an adapter that was exported, where that was trained on a folder or file.

  Raises:
    UserError: there is no run, it has no checkpoint, or its model is not to be had or is another now.
  """
  folder = pathlib.Path(run).expanduser()
  if folder.name == deployment.FILE:
    folder = folder.parent
  if (folder / deployment.FILE).exists():
    return _exported(folder, model)
  configured = configuration.configure([configuration_of(folder)], [], {"MODEL_DIR": str(folder)})
  recipe = configured.recipe(one_recipe(configured.settings))
  if not recipe.runs_model:
    raise UserError(f"the recipe {recipe.title!r} has answers of the big model: there is no model to load", folder)
  runtime.start(configured.settings)
  bench = Workbench(columns.as_trained(configured).only())
  bench.prepare([recipe])
  return Tuned(bench, recipe, restore_best(bench, recipe, folder))


def _exported(folder: pathlib.Path, model: str) -> Tuned:
  found = deployment.read(str(folder))
  flags = {"MODEL": model} if model else {}
  configured = configuration.configure([], deployment.bindings(found), flags)
  if not configured.settings.model:
    raise UserError(f"load(…, model=…): give the base that it was trained on, {found.content.get('base')!r}", folder)
  recipe = configured.recipe(deployment.RECIPE)
  runtime.start(configured.settings)
  bench = Workbench(configured.only())
  bench.prepare([recipe])
  deployment.check(found, bench.models.of(recipe).fingerprint)
  return Tuned(bench, recipe, None)
