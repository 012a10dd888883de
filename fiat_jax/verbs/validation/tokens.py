"""The part of the report on tokens: lengths and their histograms, what is too long, what the vocabulary is worth."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from fiat_jax.data.lengths import Fertility, Lengths, SplitLengths
from fiat_jax.settings import Settings
from fiat_jax.verbs.validation.findings import Findings, many

NAME_WIDTH = 24


def table(lengths: SplitLengths) -> list[str]:
  """A line a field, with the histogram of its lengths from the shortest to the longest."""
  fields = {**lengths.columns, "reasoning": lengths.reasoning, "target, end mark included": lengths.target}
  fields["whole prompt"] = lengths.prompt
  width = min(NAME_WIDTH + 2, max(len(name) for name, field in fields.items() if field))
  lines = [f"{'tokens':<{width + 2}}{'min':>7}{'median':>8}{'99 %':>7}{'max':>7}"]
  for name, field in fields.items():
    if field:
      numbers = "".join(f"{field.fits(at):>{room}}" for at, room in ((0, 7), (0.5, 8), (0.99, 7), (1, 7)))
      lines.append(f"  {name[:width]:<{width}}{numbers}  │{field.histogram()}│")
  return lines


def cut(split: str, lengths: SplitLengths, settings: Settings, findings: Findings, model: str = "") -> list[str]:
  """What exceeds the limits, in which field, and the limits that would fit.

  Args:
    model: whose vocabulary it is, where there are several.
  """
  by = f" in the vocabulary of {model}" if model else ""
  longest = collections.Counter(lengths.longest_column(row) for row in lengths.prompt.over(settings.source_length))
  where = ", ".join(f"{column} in {count:,}" for column, count in longest.most_common())
  lines = [
    _over("source_length", settings.source_length, lengths.prompt, f" (the longest field: {where})" if where else ""),
    _over("target_length", settings.target_length, lengths.target, ""),
  ]
  limits = (("source_length", "prompt", lengths.prompt), ("target_length", "target", lengths.target))
  for flag, what, field in limits:
    over = field.over(getattr(settings, flag))
    if len(over):
      findings.warn(
        f"{many(len(over), 'row')} of {split} would be refused, {what} longer than --{flag} {getattr(settings, flag)}"
        f"{by} ({findings.places(split, over)}): set --{flag} {field.fits(1)}, or shorten them"
      )
  empty = lengths.target.rows[lengths.target.tokens <= 1]
  if len(empty):
    findings.warn(
      f"{many(len(empty), 'row')} of {split} would be refused, the target without a token{by} "
      f"({findings.places(split, empty)}): the vocabulary leaves out all of it; remove them, or take another model"
    )
  return lines


def vocabulary(fertilities: Sequence[Fertility]) -> str:
  """Tokens a word of every language, the worst column of each."""
  return f"tokens a word: {_listed(fertilities)}" if fertilities else ""


def warn_of_poor_vocabulary(found: Sequence[Fertility], model: str, setting: str, findings: Findings) -> None:
  """Languages that the vocabulary spells out letter by letter, over all splits."""
  worst: dict[str, Fertility] = {}
  for fertility in found:
    if fertility.poor and (fertility.lang not in worst or worst[fertility.lang].tokens < fertility.tokens):
      worst[fertility.lang] = fertility
  if worst:
    shown = _listed([fertility for _, fertility in sorted(worst.items())])
    findings.warn(
      f"the vocabulary of {model} is poor for {many(len(worst), 'language')} (tokens a word: {shown}): prompts get "
      f"long, and the model can hardly read them: a multilingual one (--{setting}) would serve better"
    )


def _listed(fertilities: Sequence[Fertility]) -> str:
  return ", ".join(f"{f.lang} {f.tokens:.1f}{' a character' if f.characters else ''}" for f in fertilities)


def _over(flag: str, limit: int, field: Lengths, where: str) -> str:
  return (
    f"longer than --{flag} {limit}: {many(len(field.over(limit)), 'row')}{where}; {field.fits(0.99)} fits 99 %, "
    f"{field.fits(1)} fits all"
  )
