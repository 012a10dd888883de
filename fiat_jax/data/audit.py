"""What is in checked rows: counts, lengths in tokens, what stands twice, what the reasoning holds.

How it is told is in `verbs/validate.py`.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fiat_jax import prompts
from fiat_jax.data.rows import Row
from fiat_jax.data.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lengths:
  """Tokens of one field over the rows that have it; `rows` are their positions in the split."""

  tokens: np.ndarray
  rows: np.ndarray

  def fits(self, share: float) -> int:
    """The smallest limit that this share of the rows keeps."""
    return int(np.quantile(self.tokens, share, method="inverted_cdf"))

  def over(self, limit: int) -> np.ndarray:
    """The positions of the rows that exceed the limit."""
    return self.rows[self.tokens > limit]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasoningCounts:
  """How many rows have a reasoning, and of those: hold a target in it, give an answer, give a right one."""

  rows: int
  holds_target: int
  answered: int
  right: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Overlap:
  """What stands in two splits, or twice in one: how many different ones, and the first two rows."""

  what: str
  splits: tuple[str, str]
  count: int
  first: tuple[Row, Row]


def languages(rows: Sequence[Row]) -> dict[str, int]:
  """Rows of each language, the commonest first."""
  return dict(collections.Counter(sorted(row.lang for row in rows)).most_common())


def lengths(tokenizer: Tokenizer, rows: Sequence[Row], instruction: str) -> dict[str, Lengths]:
  """Tokens of x, the reasoning, the target with its end mark, and the whole prompt.

  The prompt is I_τ around x, with the reasoning where the row has one: the longest that any recipe makes of it.
  """
  forms = {
    use: prompts.tuned_prompt(instruction, use_instruction=True, use_reasoning=use)
    for use in {bool(row.reasoning) for row in rows}
  }
  texts = [prompts.fill(forms[bool(row.reasoning)], {"x": row.x, "reasoning": row.reasoning or ""}) for row in rows]
  everywhere = np.arange(len(rows))
  reasoned = np.array([n for n, row in enumerate(rows) if row.reasoning], int)
  counted = {
    "x": (_counts(tokenizer, [row.x for row in rows]), everywhere),
    "reasoning": (_counts(tokenizer, [row.reasoning for row in rows if row.reasoning]), reasoned),
    "target": (_counts(tokenizer, [row.targets[0] for row in rows]) + 1, everywhere),
    "prompt": (np.array([len(tokenizer.encode_prompt(text)) for text in texts]), everywhere),
  }
  return {name: Lengths(tokens=tokens, rows=where) for name, (tokens, where) in counted.items() if len(where)}


def reasoning_counts(
  rows: Sequence[Row], read: Callable[[str], str | None], same: Callable[[str, str], bool]
) -> ReasoningCounts:
  """What the recorded reasoning gives away.

  Args:
    read: the answer that stands in a reasoning, if any.
    same: whether an answer counts as a target.
  """
  reasoned = [(row, row.reasoning) for row in rows if row.reasoning]
  answers = [(row, answer) for row, text in reasoned if (answer := read(text)) is not None]
  return ReasoningCounts(
    rows=len(reasoned),
    holds_target=sum(any(t.strip().casefold() in text.casefold() for t in row.targets) for row, text in reasoned),
    answered=len(answers),
    right=sum(any(same(answer, target) for target in row.targets) for row, answer in answers),
  )


def overlaps(splits: Mapping[str, Sequence[Row]]) -> list[Overlap]:
  """Rows of the same input and target within a split; such rows, ids and groups that stand in two splits."""
  found = [_twice(split, rows) for split, rows in splits.items()]
  for first, second in itertools.combinations(splits, 2):
    for what, key in (("rows", _content), ("ids", _id), ("groups", _group)):
      one, other = _index(splits[first], key), _index(splits[second], key)
      shared = [value for value in other if value in one]
      if shared:
        pair = (one[shared[0]], other[shared[0]])
        found.append(Overlap(what=what, splits=(first, second), count=len(shared), first=pair))
  return [overlap for overlap in found if overlap]


def _twice(split: str, rows: Sequence[Row]) -> Overlap | None:
  index = _index(rows, _content)
  again = [row for row in rows if index[_content(row)] is not row]
  if not again:
    return None
  return Overlap(what="rows", splits=(split, split), count=len(again), first=(index[_content(again[0])], again[0]))


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


def _counts(tokenizer: Tokenizer, texts: Sequence[str]) -> np.ndarray:
  return np.array([len(ids) for ids in tokenizer.encode_batch(texts)], int)
