"""The part of the report on what is in a split: rows, groups, languages, labels, reasoning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fiat_jax.data import audit
from fiat_jax.data.keys import Keys
from fiat_jax.data.rows import Row
from fiat_jax.evaluation import metrics
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.settings import Settings
from fiat_jax.verbs.validation.findings import Findings, many, share

LANGUAGES_SHOWN = 24
LABEL_WIDTH = 40


def counts(rows: Sequence[Row], keys: Keys) -> list[str]:
  """Rows, groups and languages."""
  langs, groups = audit.languages(rows), np.unique(keys.groups)
  shown = [f"{lang} {count:,}" for lang, count in list(langs.items())[:LANGUAGES_SHOWN]]
  more = [f"{len(langs) - LANGUAGES_SHOWN} more"] if len(langs) > LANGUAGES_SHOWN else []
  own = ", each row its own" if not keys.grouped.any() else ""
  return [
    f"{many(len(rows), 'row')} in {many(len(groups), 'group')}{own}",
    f"{many(len(langs), 'language')}: {', '.join(shown + more)}",
  ]


def labels(found: Mapping[str, int]) -> list[str]:
  """Rows of each label, and what always answering the commonest would score."""
  total, width = sum(found.values()), max(len(_short(label)) for label in found)
  return [
    f"{many(len(found), 'label')}; always the commonest would be right in {100 * max(found.values()) / total:.1f} %",
    *(f"  {_short(label):<{width}}  {share(count, total)}" for label, count in found.items()),
  ]


def warn_of_unseen_labels(splits: Mapping[str, Sequence[Row]], findings: Findings) -> None:
  """Labels of other splits that training never sees."""
  if "train" not in splits:
    return
  seen = {target for row in splits["train"] for target in row.targets}
  for split in ("validation", "test"):
    unseen = [n for n, row in enumerate(splits.get(split, ())) if not seen & set(row.targets)]
    if unseen:
      names = ", ".join(map(repr, dict.fromkeys(_short(findings.row(split, n).targets[0]) for n in unseen[:3])))
      findings.warn(
        f"{many(len(unseen), 'row')} of {split} ({findings.places(split, unseen)}) have a label that no row of train "
        f"has ({names}): it is never learned; check its spelling, or split anew"
      )


def reasoning(
  split: str, rows: Sequence[Row], rule: AnswerRule, settings: Settings, needed: str | None, findings: Findings
) -> list[str]:
  """What the recorded reasoning holds; `needed` is the title of a recipe that reads it."""
  found = audit.reasoning_audit(rows, rule.read, lambda answer, target: metrics.exact_match(answer, target) > 0)
  total, without = found.reasoned, sorted([*found.missing, *found.empty])
  if without and (total or needed):
    what = f"the recipe {needed!r} needs it" if needed else "recipes that read it will refuse them"
    findings.warn(
      f"{len(without):,} of {many(len(rows), 'row')} of {split} ({findings.places(split, without)}) have no reasoning "
      f"in the column {settings.reasoning!r}, and {what}: name its column with --reasoning, or choose --recipes "
      "fine_tuning"
    )
  if not total:
    return [f"reasoning: no row has one in the column {settings.reasoning!r}"]
  if found.unfinished:
    findings.warn(
      f"{share(len(found.unfinished), total)} reasonings of {split} end without a sentence's end "
      f"({findings.places(split, found.unfinished)}): they may have been cut; ask for more tokens, or leave them"
    )
  if not found.answered:
    findings.warn(f"no answer could be read out of the reasoning of {split}: give its pattern with --answer")
  return [
    f"reasoning: {share(total, len(rows))} rows have one; {len(found.missing):,} missing, {len(found.empty):,} empty",
    f"  hold a target in it          {share(len(found.holds_target), total)}",
    f"  end unfinished               {share(len(found.unfinished), total)}",
    f"  give an answer (--answer)    {share(len(found.answered), total)}",
    f"  give a right answer          {share(len(found.right), total)}",
  ]


def _short(label: str) -> str:
  line = " ".join(label.split())
  return line if len(line) <= LABEL_WIDTH else line[: LABEL_WIDTH - 1] + "…"
