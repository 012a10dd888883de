"""What is in checked rows: languages, labels, what stands twice, what the reasoning holds.

Lengths are in `lengths.py`, near duplicates in `duplicates.py`; how it is told is in `verbs/validation/`.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

from fiat_jax.data.rows import Row

MOST_LABELS = 20  # with more different targets, or where more than a fifth of the rows differ, they are no labels
_SENTENCE_ENDS = frozenset(".!?…。！？｡．।॥؟۔։။།።፧፨។៕᙮᠃᠉᱾᱿܀܁܂‼‽⁇⁈⁉")
_CLOSING = frozenset("\"'*_`)]}»”’」』）】〉》")  # what may follow a sentence's end


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasoningAudit:
  """The rows with a reasoning, and which of those hold a target in it, end unfinished, give an answer, a right one."""

  reasoned: Sequence[Row]
  holds_target: Sequence[Row]
  unfinished: Sequence[Row]
  answered: Sequence[Row]
  right: Sequence[Row]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap:
  """What stands in two splits, or twice in one: `pairs` has two rows for each different one."""

  what: str
  splits: tuple[str, str]
  pairs: Sequence[tuple[Row, Row]]


def languages(rows: Sequence[Row]) -> dict[str, int]:
  """Rows of each language, the commonest first."""
  return dict(collections.Counter(sorted(row.lang for row in rows)).most_common())


def labels(splits: Mapping[str, Sequence[Row]]) -> dict[str, dict[str, int]]:
  """By split, the rows of each first target, the commonest first; empty where targets are too many to be labels."""
  counts = {split: collections.Counter(sorted(row.targets[0] for row in rows)) for split, rows in splits.items()}
  distinct, total = len(set().union(*counts.values())), sum(map(len, splits.values()))
  few = distinct <= MOST_LABELS and 5 * distinct < total
  return {split: dict(counted.most_common()) for split, counted in counts.items()} if few else {}


def reasoning_audit(
  rows: Sequence[Row], read: Callable[[str], str | None], same: Callable[[str, str], bool]
) -> ReasoningAudit:
  """What the recorded reasoning gives away.

  Args:
    read: the answer that stands in a reasoning, if any.
    same: whether an answer counts as a target.
  """
  reasoned = [(row, row.reasoning) for row in rows if row.reasoning]
  answers = [(row, answer) for row, text in reasoned if (answer := read(text)) is not None]
  return ReasoningAudit(
    reasoned=[row for row, _ in reasoned],
    holds_target=[row for row, text in reasoned if any(t.strip().casefold() in text.casefold() for t in row.targets)],
    unfinished=[row for row, text in reasoned if not ends(text)],
    answered=[row for row, _ in answers],
    right=[row for row, answer in answers if any(same(answer, target) for target in row.targets)],
  )


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


def overlaps(splits: Mapping[str, Sequence[Row]]) -> list[Overlap]:
  """Rows of the same input and target within a split; such rows, ids and groups that stand in two splits."""
  found = [_twice(split, rows) for split, rows in splits.items()]
  for first, second in itertools.combinations(splits, 2):
    for what, key in (("rows", _content), ("ids", _id), ("groups", _group)):
      one, other = _index(splits[first], key), _index(splits[second], key)
      pairs = [(one[value], row) for value, row in other.items() if value in one]
      found.append(Overlap(what=what, splits=(first, second), pairs=pairs))
  return [overlap for overlap in found if overlap.pairs]


def _twice(split: str, rows: Sequence[Row]) -> Overlap:
  index = _index(rows, _content)
  pairs = [(first, row) for row in rows if (first := index[_content(row)]) is not row]
  return Overlap(what="rows", splits=(split, split), pairs=pairs)


def _index(rows: Sequence[Row], key: Callable[[Row], object]) -> dict[object, Row]:
  """The first row of every key; rows without one (None) are left out."""
  index: dict[object, Row] = {}
  for row in rows:
    if (value := key(row)) is not None:
      index.setdefault(value, row)
  return index


def _content(row: Row) -> object:
  return row.x, row.targets


def _id(row: Row) -> object:
  return row.id


def _group(row: Row) -> object:
  return row.group if row.group != row.id else None  # a group made from the id says nothing that the id does not
