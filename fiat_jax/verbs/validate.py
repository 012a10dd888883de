"""`fiat validate`: what is in the rows, and what would go wrong with them. Neither JAX nor TensorFlow.

The parts of the report are in `verbs/validation/`, the counting in `data/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fiat_jax import prompts
from fiat_jax.checkpoints.locate import locate
from fiat_jax.configuration import Configuration
from fiat_jax.data import audit, marks
from fiat_jax.data.keys import keys_of
from fiat_jax.data.lengths import SplitLengths, split_lengths
from fiat_jax.data.rows import Row, read_rows
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.progress import watched
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.verbs.validation import contents, examples, repeats, tokens
from fiat_jax.verbs.validation.findings import Findings


def main(configuration: Configuration) -> None:
  """Prints the report. Rows that would stop a run, and leaks, are warnings: they do not change the exit code.

  Raises:
    UserError: no split is given, a row cannot be read, the instruction or the answer rule is faulty, the model's chat
      format has no template, two begin marks or no end mark.
  """
  settings = configuration.settings
  settings.answers("validate")
  if not settings.files():
    raise UserError("no rows to look at: give --train FILE, --validation FILE or --test FILE")
  rule = AnswerRule.parse(settings.answer)
  metrics.check(settings.metrics)
  recipes = [configuration.recipe(name) for name in settings.recipes]
  needed = next((recipe.title for recipe in recipes if recipe.needs_reasoning), None)
  splits = {split: read_rows(path, settings.layout) for split, path in settings.files().items()}
  findings = Findings({split: settings.file(split) for split in splits}, splits)
  keys = {split: keys_of(rows) for split, rows in splits.items()}
  _check_instruction(settings.instruction, findings)
  tokenizer = _tokenizer(configuration, findings)
  lengths = _lengths(tokenizer, splits, settings.instruction) if tokenizer else {}
  labels = audit.labels(splits)
  for split, rows in splits.items():
    lines = contents.counts(rows, keys[split]) + (contents.labels(labels[split]) if labels else [])
    if split in lengths:
      lines += [*tokens.table(lengths[split]), *tokens.cut(split, lengths[split], settings, findings)]
      lines += filter(None, [tokens.vocabulary(lengths[split].fertilities)])
    lines += contents.reasoning(split, rows, rule, settings, needed, findings)
    print("\n".join([f"{split}: {settings.files()[split]}", *(f"  {line}" for line in lines), ""]))
  found = [fertility for split in lengths.values() for fertility in split.fertilities]
  tokens.warn_of_poor_vocabulary(found, settings.model, findings)
  if labels:
    contents.warn_of_unseen_labels(splits, findings)
  repeats.warn_of_repeats(splits, keys, findings)
  if settings.show and tokenizer:
    print("\n".join(examples.shown(configuration, splits, tokenizer, findings)))
  print(findings.report())


def _check_instruction(instruction: str, findings: Findings) -> None:
  prompts.tuned_prompt(instruction, use_instruction=True, use_reasoning=True)
  try:
    prompts.tuned_prompt(instruction, use_instruction=True, use_reasoning=False)
  except UserError as e:
    findings.warn(str(e))


def _tokenizer(configuration: Configuration, findings: Findings) -> Tokenizer | None:
  """The model's, its marks checked; None, with a warning, where the model is not to be had."""
  settings = configuration.settings
  try:
    found = locate(settings.model, configuration.models.get(settings.model))
    tokenizer = Tokenizer.load(found.tokenizer, plain=settings.plain)
  except UserError as e:
    if settings.show:
      raise
    findings.warn(f"lengths are not known: {e}")
    return None
  marks.check_format(tokenizer, plain=settings.plain)
  if tokenizer.template_source and not tokenizer.ends_turns:
    findings.warn(
      f"the chat template ({tokenizer.template_source}) writes no end mark after the assistant's turn: "
      f"{tokenizer.token(tokenizer.end_id or 0)} is trained and stopped at instead; other programs may not do so"
    )
  return tokenizer


def _lengths(tokenizer: Tokenizer, splits: Mapping[str, Sequence[Row]], instruction: str) -> dict[str, SplitLengths]:
  with watched("tokenising", sum(map(len, splits.values()))) as advance:
    return {split: split_lengths(tokenizer, rows, instruction, advance) for split, rows in splits.items()}
