"""`fiat validate`: what is in the rows, and what would go wrong with them. Neither JAX nor TensorFlow.

The parts of the report are in `verbs/validation/`, the counting in `data/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fiat_jax import prompts
from fiat_jax.configuration import Configuration
from fiat_jax.data import audit, marks
from fiat_jax.data.keys import keys_of
from fiat_jax.data.lengths import SplitLengths, split_lengths
from fiat_jax.data.rows import Row, read_rows
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.data.truncation import Truncation
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.progress import watched
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.recipe import ModelSetting, Recipe
from fiat_jax.verbs.validation import contents, examples, repeats, tokens
from fiat_jax.verbs.validation.findings import Findings


def main(configuration: Configuration) -> None:
  """Prints the report. Rows that would stop a run, and leaks, are warnings: they do not change the exit code.

  Raises:
    UserError: no split is given, a row cannot be read, the instruction, the answer rule or the column to cut is faulty,
      a recipe's model is not given, or its chat format has no template, two begin marks or no end mark.
  """
  settings = configuration.settings
  settings.answers("validate")
  if not settings.files():
    raise UserError("no rows to look at: give --train FILE, --validation FILE or --test FILE")
  rule = AnswerRule.parse(settings.answer)
  metrics.check(settings.metrics, bool(settings.labels), code=True, judge=True)  # nothing is run here
  recipes = [configuration.recipe(name) for name in settings.recipes]
  needed = next((recipe.title for recipe in recipes if recipe.needs_reasoning or recipe.distils), None)
  splits = {split: read_rows(path, settings.layout) for split, path in settings.files().items()}
  if cutting := Truncation.parse("" if settings.chats else settings.truncate, settings.source_length):
    for rows in splits.values():
      cutting.check(rows[0].fields)
  findings = Findings({split: settings.file(split) for split in splits}, splits)
  keys = {split: keys_of(rows) for split, rows in splits.items()}
  _check_instruction(settings.instruction, findings)
  tokenizers = _tokenizers(configuration, recipes, findings)
  lengths = {model: _lengths(tokenizer, splits, settings.instruction) for model, tokenizer in tokenizers.items()}
  labels = audit.labels(splits)
  for split, rows in splits.items():
    lines = contents.counts(rows, keys[split]) + (contents.labels(labels[split]) if labels else [])
    for model, found in lengths.items():
      of = getattr(settings, model) if len(lengths) > 1 else ""
      lines += [f"in the vocabulary of {of}:"] if of else []
      lines += [*tokens.table(found[split]), *tokens.cut(split, found[split], settings, findings, of)]
      lines += filter(None, [tokens.vocabulary(found[split].fertilities)])
    lines += contents.reasoning(split, rows, rule, settings, needed, findings)
    print("\n".join([f"{split}: {settings.files()[split]}", *(f"  {line}" for line in lines), ""]))
  for model, found in lengths.items():
    fertilities = [fertility for split in found.values() for fertility in split.fertilities]
    tokens.warn_of_poor_vocabulary(fertilities, getattr(settings, model), model, findings)
  if labels:
    contents.warn_of_unseen_labels(splits, findings)
  repeats.warn_of_repeats(splits, keys, findings)
  if settings.show and tokenizers:
    print("\n".join(examples.shown(configuration, splits, tokenizers, findings)))
  print(findings.report())


def _check_instruction(instruction: str, findings: Findings) -> None:
  prompts.tuned_prompt(instruction, use_instruction=True, use_reasoning=True)
  try:
    prompts.tuned_prompt(instruction, use_instruction=True, use_reasoning=False)
  except UserError as e:
    findings.warn(str(e))


def _tokenizers(
  configuration: Configuration, recipes: Sequence[Recipe], findings: Findings
) -> dict[ModelSetting, Tokenizer]:
  """Those of the models that the recipes work on, or that are given; a model that is not to be had is left out."""
  given = ["fiat", "base_full_fine_tuning"][: 1 + bool(configuration.settings.base_model)]
  working = [recipe for recipe in recipes if recipe.runs_model] or map(configuration.recipe, given)
  found: dict[ModelSetting, Tokenizer] = {}
  for recipe in {recipe.model_setting: recipe for recipe in working}.values():
    configuration.model_of(recipe)  # that none is given is no finding, but an error
    if tokenizer := _tokenizer(configuration, recipe, findings):
      found[recipe.model_setting] = tokenizer
  return found


def _tokenizer(configuration: Configuration, recipe: Recipe, findings: Findings) -> Tokenizer | None:
  """The model's, its marks checked; None, with a warning, where the model is not to be had."""
  plain = configuration.plain(recipe)
  try:
    tokenizer = Tokenizer.load(configuration.located(recipe).tokenizer, plain=plain)
  except UserError as e:
    if configuration.settings.show:
      raise
    findings.warn(f"lengths are not known: {e}")
    return None
  marks.check_format(tokenizer, plain=plain)
  if tokenizer.template_source and not tokenizer.ends_turns:
    findings.warn(
      f"the chat template ({tokenizer.template_source}) writes no end mark after the assistant's turn: "
      f"{tokenizer.token(tokenizer.end_id or 0)} is trained and stopped at instead; other programs may not do so"
    )
  return tokenizer


def _lengths(tokenizer: Tokenizer, splits: Mapping[str, Sequence[Row]], instruction: str) -> dict[str, SplitLengths]:
  with watched("tokenising", sum(map(len, splits.values()))) as advance:
    return {split: split_lengths(tokenizer, rows, instruction, advance) for split, rows in splits.items()}
