"""Warnings of what stands twice: rows, ids and groups, and rows that are nearly the same."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fiat_jax.data import audit, duplicates
from fiat_jax.data.audit import Overlap
from fiat_jax.data.duplicates import Near
from fiat_jax.data.keys import Keys, keys_of
from fiat_jax.data.rows import Row
from fiat_jax.progress import watched
from fiat_jax.verbs.validation.findings import Findings, many

if TYPE_CHECKING:
  from fiat_jax.workbench import Workbench

MANY = 50_000  # rows, beyond which comparing all with all is left to `fiat validate`


def warn_of_repeats(splits: Mapping[str, Sequence[Row]], keys: Mapping[str, Keys], findings: Findings) -> None:
  """Exact ones first. Across splits they are leaks: a score would be too good."""
  _warn_of_exact_repeats(keys, findings)
  with watched("looking for near duplicates", sum(map(len, splits.values()))) as advance:
    found = duplicates.near(splits, keys, advance)
  by_splits: dict[tuple[str, str], list[Near]] = collections.defaultdict(list)
  for near in found:
    by_splits[near.splits].append(near)
  for (one, other), pairs in by_splits.items():
    findings.warn(_near(one, other, pairs, findings))


def of_bench(bench: Workbench) -> list[str]:
  """What is said of a bench's rows before any work on them; of very many, near duplicates are `fiat validate`'s."""
  findings = Findings({split: bench.settings.file(split) for split in bench.rows}, bench.rows)
  keys = {split: keys_of(rows) for split, rows in bench.rows.items()}
  if sum(map(len, bench.rows.values())) <= MANY:
    warn_of_repeats(bench.rows, keys, findings)
  else:
    _warn_of_exact_repeats(keys, findings)
  return findings.warnings


def _warn_of_exact_repeats(keys: Mapping[str, Keys], findings: Findings) -> None:
  """The quick part."""
  for overlap in audit.overlaps(keys):
    findings.warn(_exact(overlap, findings))


def _exact(overlap: Overlap, findings: Findings) -> str:
  (one, other), first = overlap.splits, findings.row(overlap.splits[1], int(overlap.pairs[0][1]))
  places = findings.pairs(overlap.splits, overlap.pairs)
  if one == other:
    return f"{many(len(overlap.pairs), 'row')} of {one} repeat the input and target of another ({places}): remove them"
  names = {
    "rows": "the same input and target",
    "ids": f"the same id, as {first.id!r}",
    "groups": f"the same group, as {first.group!r}",
  }
  noun = many(len(overlap.pairs), overlap.what.removesuffix("s"))
  return f"leak: {noun} in both {one} and {other}: {names[overlap.what]} ({places}): remove them from {one}"


def _near(one: str, other: str, found: Sequence[Near], findings: Findings) -> str:
  closest = sorted(found, key=lambda near: -near.similarity)
  notes = [f"{100 * near.similarity:.0f} % alike" for near in closest]
  places = findings.pairs((one, other), [near.rows for near in closest], notes)
  conflicts = sum(near.conflict for near in found)
  same = f", {conflicts:,} of them the same input with another target" if conflicts else ""
  verb = "is" if len(found) == 1 else "are"
  if one == other:
    return (
      f"{many(len(found), 'row')} of {one} {verb} nearly the same as another of another group{same} ({places}): remove "
      "them, or name the column that holds them together with --group"
    )
  return (
    f"leak: {many(len(found), 'row')} of {other} {verb} nearly the same as a row of {one} of another group{same} "
    f"({places}): remove them from {one}, or name the column that holds them together with --group and split anew"
  )
