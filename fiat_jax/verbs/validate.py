"""`fiat validate`: what is in the rows, and what would go wrong with them. Neither JAX nor TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fiat_jax import prompts
from fiat_jax.checkpoints.locate import locate
from fiat_jax.configuration import Configuration
from fiat_jax.data import audit
from fiat_jax.data.audit import Lengths, Overlap
from fiat_jax.data.rows import Row, read_rows
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.settings import Settings

FIELDS = {"x": "x", "reasoning": "reasoning", "target": "target, end mark included", "prompt": "whole prompt"}
LIMITS = {"prompt": "source_length", "target": "target_length"}
LANGUAGES_SHOWN = 24


def main(configuration: Configuration) -> None:
  """Prints the report. What would stop a run, and leaks, are warnings: they do not change the exit code.

  Raises:
    UserError: no split is given, a row cannot be read, the instruction or the answer rule is faulty.
  """
  settings = configuration.settings
  if not settings.files():
    raise UserError("no rows to look at: give --train FILE, --validation FILE or --test FILE")
  rule = AnswerRule.parse(settings.answer)
  metrics.check(settings.metrics)
  recipes = [configuration.recipe(name) for name in settings.recipes]
  rows = {split: read_rows(path, settings.layout) for split, path in settings.files().items()}
  warnings = _instruction_warnings(settings.instruction)
  tokenizer = _tokenizer(configuration, warnings)
  for split in rows:
    print(f"{split}: {settings.files()[split]}")
    print("\n".join(f"  {line}" for line in _counts(rows[split])))
    if tokenizer:
      _print_lengths(
        split, rows[split], audit.lengths(tokenizer, rows[split], settings.instruction), settings, warnings
      )
    needed = next((recipe.title for recipe in recipes if recipe.needs_reasoning), None)
    _print_reasoning(split, rows[split], rule, settings, needed, warnings)
    print()
  overlaps = audit.overlaps(rows)
  warnings += [_leak(overlap, settings) for overlap in overlaps]
  print("\n".join(["warnings:", *(f"  - {warning}" for warning in warnings)]) if warnings else "no warnings")


def _instruction_warnings(instruction: str) -> list[str]:
  prompts.tuned_prompt(instruction, use_instruction=True, use_reasoning=True)
  try:
    prompts.tuned_prompt(instruction, use_instruction=True, use_reasoning=False)
  except UserError as e:
    return [str(e)]
  return []


def _tokenizer(configuration: Configuration, warnings: list[str]) -> Tokenizer | None:
  name = configuration.settings.model
  try:
    return Tokenizer.load(locate(name, configuration.models.get(name)))
  except UserError as e:
    warnings.append(f"lengths are not known: {e}")
    return None


def _counts(rows: Sequence[Row]) -> list[str]:
  langs, groups = audit.languages(rows), {row.group for row in rows}
  shown = [f"{lang} {count}" for lang, count in list(langs.items())[:LANGUAGES_SHOWN]]
  more = [f"{len(langs) - LANGUAGES_SHOWN} more"] if len(langs) > LANGUAGES_SHOWN else []
  own = ", each row its own" if all(row.group == row.id for row in rows) else ""
  return [
    f"{_many(len(rows), 'row')} in {_many(len(groups), 'group')}{own}",
    f"{_many(len(langs), 'language')}: {', '.join(shown + more)}",
  ]


def _print_lengths(
  split: str, rows: Sequence[Row], lengths: Mapping[str, Lengths], settings: Settings, warnings: list[str]
) -> None:
  print(f"  {'tokens':<26}{'min':>7}{'median':>8}{'99 %':>7}{'max':>7}")
  for name, field in lengths.items():
    numbers = [field.fits(share) for share in (0, 0.5, 0.99, 1)]
    print(f"    {FIELDS[name]:<24}" + "".join(f"{n:>{w}}" for n, w in zip(numbers, (7, 8, 7, 7), strict=True)))
  for name, flag in LIMITS.items():
    field, limit = lengths[name], getattr(settings, flag)
    over, (most, all_) = field.over(limit), (field.fits(share) for share in (0.99, 1))
    print(f"  longer than --{flag} {limit}: {_many(len(over), 'row')}; {most} holds 99 %, {all_} holds all")
    if len(over):
      place = f"{settings.files()[split].split('[')[0]}:{rows[over[0]].line}"
      warnings.append(
        f"{_many(len(over), 'row')} of {split} would be refused, {name} longer than --{flag} {limit} (the first: "
        f"{place}): set --{flag} {all_}, or shorten them"
      )


def _print_reasoning(
  split: str, rows: Sequence[Row], rule: AnswerRule, settings: Settings, needed: str | None, warnings: list[str]
) -> None:
  counts = audit.reasoning_counts(rows, rule.read, lambda answer, target: metrics.exact_match(answer, target) > 0)
  missing = len(rows) - counts.rows
  if counts.rows:
    print(f"  reasoning: {_share(counts.rows, len(rows))} rows have one; of these")
    print(f"    hold a target in it          {_share(counts.holds_target, counts.rows)}")
    print(f"    give an answer (--answer)    {_share(counts.answered, counts.rows)}")
    print(f"    give a right answer          {_share(counts.right, counts.rows)}")
  else:
    print(f"  reasoning: no row has one in the column {settings.reasoning!r}")
  if missing and (counts.rows or needed):
    what = f"the recipe {needed!r} needs it" if needed else "recipes that read it will refuse them"
    warnings.append(
      f"{missing} of {_many(len(rows), 'row')} of {split} have no reasoning in the column {settings.reasoning!r}, and "
      f"{what}: name its column with --reasoning, or choose --recipes fine_tuning"
    )
  if counts.rows and not counts.answered:
    warnings.append(f"no answer could be read out of the reasoning of {split}: give its pattern with --answer")


def _leak(overlap: Overlap, settings: Settings) -> str:
  one, other = overlap.splits
  places = [
    f"{settings.files()[split].split('[')[0]}:{row.line}"
    for split, row in zip(overlap.splits, overlap.first, strict=True)
  ]
  first = f"the first: {' and '.join(places)}"
  if one == other:
    return f"{_many(overlap.count, 'row')} of {one} repeat the input and target of another ({first}): remove them"
  names = {
    "rows": "the same input and target",
    "ids": f"the same id, as {overlap.first[1].id!r}",
    "groups": f"the same group, as {overlap.first[1].group!r}",
  }
  noun = _many(overlap.count, overlap.what.removesuffix("s"))
  return f"leak: {noun} in both {one} and {other}: {names[overlap.what]} ({first}): remove them from {one}"


def _many(count: int, noun: str) -> str:
  return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _share(count: int, total: int) -> str:
  return f"{count:,} of {total:,} ({100 * count / total:.1f} %)"
