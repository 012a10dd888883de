"""What is in checked rows: languages, labels, what stands twice, what the reasoning holds.

Lengths are in `lengths.py`, near duplicates in `duplicates.py`; how it is told is in `verbs/validation/`.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from fiat_jax.data.keys import Keys
from fiat_jax.data.rows import Row

MOST_LABELS = 20  # with more different targets, or where more than a fifth of the rows differ, they are no labels
_SENTENCE_ENDS = frozenset(".!?…。！？｡．।॥؟۔։။།።፧፨។៕᙮᠃᠉᱾᱿܀܁܂‼‽⁇⁈⁉")
_CLOSING = frozenset("\"'*_`)]}»”’」』）】〉》")  # what may follow a sentence's end


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasoningAudit:
  """Positions of rows: without a reasoning, with an empty one; of the others, which hold a target, end unfinished, …"""

  missing: Sequence[int]
  empty: Sequence[int]
  reasoned: int  # how many have one
  holds_target: Sequence[int]
  unfinished: Sequence[int]
  answered: Sequence[int]
  right: Sequence[int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap:
  """What stands in two splits, or twice in one: `pairs` [P, 2] has the positions of two rows for each different one."""

  what: str
  splits: tuple[str, str]
  pairs: np.ndarray


def languages(rows: Iterable[Row]) -> dict[str, int]:
  """Rows of each language, the commonest first."""
  return _commonest(collections.Counter(row.lang for row in rows))


def labels(splits: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, int]]:
  """By split, the rows of each first target, the commonest first; empty where targets are too many to be labels."""
  counts: dict[str, collections.Counter[str]] = {split: collections.Counter() for split in splits}
  distinct, total = set[str](), sum(map(len, splits.values()))
  for split, rows in splits.items():
    for row in rows:
      counts[split][row.targets[0]] += 1
      distinct.add(row.targets[0])
      if len(distinct) > MOST_LABELS:
        return {}
  return {split: _commonest(counted) for split, counted in counts.items()} if 5 * len(distinct) < total else {}


def _commonest(counted: Mapping[str, int]) -> dict[str, int]:
  return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def reasoning_audit(
  rows: Iterable[Row], read: Callable[[str], str | None], same: Callable[[str, str], bool]
) -> ReasoningAudit:
  """What the recorded reasoning gives away.

  Args:
    read: the answer that stands in a reasoning, if any.
    same: whether an answer counts as a target.
  """
  found: dict[str, list[int]] = {
    field.name: [] for field in dataclasses.fields(ReasoningAudit) if field.name != "reasoned"
  }
  reasoned = 0
  for n, row in enumerate(rows):
    if not row.reasoning:
      found["missing" if row.reasoning is None else "empty"].append(n)
      continue
    reasoned, answer, folded = reasoned + 1, read(row.reasoning), row.reasoning.casefold()
    told = {
      "holds_target": any(target.strip().casefold() in folded for target in row.targets),
      "unfinished": not ends(row.reasoning),
      "answered": answer is not None,
      "right": answer is not None and any(same(answer, target) for target in row.targets),
    }
    for name in filter(told.get, told):
      found[name].append(n)
  return ReasoningAudit(reasoned=reasoned, **found)


def ends(text: str) -> bool:
  """Whether a text ends where a sentence does, in any script; where the script marks no end (Thai), it does."""
  stripped = text.rstrip()
  while stripped:
    last = stripped[-1]
    if last in _SENTENCE_ENDS:
      return True
    if "\u0e00" <= last <= "\u0eff":  # Thai and Lao write no full stop
      return True
    if last not in _CLOSING:
      return False
    stripped = stripped[:-1].rstrip()
  return False


def overlaps(keys: Mapping[str, Keys]) -> list[Overlap]:
  """Rows of the same input and target within a split; such rows, ids and groups that stand in two splits.

  Args:
    keys: of the rows of each split.
  """
  found = [Overlap(what="rows", splits=(split, split), pairs=_twice(of.contents)) for split, of in keys.items()]
  for first, second in itertools.combinations(keys, 2):
    one, other = keys[first], keys[second]
    everything = np.ones(len(one), bool), np.ones(len(other), bool)
    for what, values, of_interest in (
      ("rows", (one.contents, other.contents), everything),
      ("ids", (one.ids, other.ids), everything),
      ("groups", (one.groups, other.groups), (one.grouped, other.grouped)),  # others say nothing that the id does not
    ):
      found.append(Overlap(what=what, splits=(first, second), pairs=_shared(*values, *of_interest)))
  return [overlap for overlap in found if len(overlap.pairs)]


def _twice(values: np.ndarray) -> np.ndarray:
  """[P, 2] the first of each value, and every later one, in the order of those."""
  _, first, which = np.unique(values, return_index=True, return_inverse=True)
  later = np.flatnonzero(first[which] != np.arange(len(values)))
  return np.stack([first[which][later], later], axis=1)


def _shared(one: np.ndarray, other: np.ndarray, of_one: np.ndarray, of_other: np.ndarray) -> np.ndarray:
  """[P, 2] the first of each value in both, in the order of the second; those of interest alone."""
  places = np.flatnonzero(of_one), np.flatnonzero(of_other)
  _, first, second = np.intersect1d(one[places[0]], other[places[1]], return_indices=True)
  pairs = np.stack([places[0][first], places[1][second]], axis=1)
  return pairs[np.argsort(pairs[:, 1])]
