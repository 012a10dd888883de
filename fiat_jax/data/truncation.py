"""Cutting one column of x where a prompt would be too long: that column alone, and only where the user asks for it.

The instruction, the reasoning, the target and the other columns stay whole. What is cut off is as little as possible,
and never part of a character as readers see it (a letter and its marks, a flag).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Literal

import regex

from fiat_jax import prompts
from fiat_jax.data.row import Layout, Row, compose
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError

Prompt = Callable[[Row, str], str]
Count = Callable[[Sequence[str]], list[int]]
Side = Literal["left", "right", "exemplars"]
EXEMPLAR = r"\nAnswer:[^\n]*\n\n"  # how each ends, as few-shot benchmarks write them


@dataclasses.dataclass(frozen=True)
class Truncation:
  """Which column is cut, on which side, so that a prompt has at most `limit` tokens.

  The side `exemplars` is the right one, and whole exemplars go.
  """

  column: str
  side: Side
  limit: int

  @classmethod
  def parse(cls, text: str, limit: int) -> Truncation | None:
    """Reads `column` (cut on its right) or `column:SIDE`; None where the text is empty.

    Raises:
      UserError: the side is none of them.
    """
    if not text:
      return None
    column, _, side = text.rpartition(":")
    if not column:
      column, side = text, "right"
    if side == "left" or side == "right" or side == "exemplars":
      return cls(column, side, limit)
    raise UserError(f"--truncate {text}: give a column of --input, or COLUMN:left, COLUMN:right or COLUMN:exemplars")

  def check(self, columns: Collection[str]) -> None:
    """Raises UserError where x is not made of the column."""
    if self.column not in columns:
      raise UserError(f"--truncate {self.column}: the input's column is {prompts.nearest(self.column, columns)}")


def prompt_text(template: prompts.Template, row: Row, x: str | None = None) -> str:
  """The template filled in with the row, or with its x as it was cut."""
  return prompts.fill(template, {"x": row.x if x is None else x, "reasoning": row.reasoning or ""})


def cut(
  rows: Sequence[Row], layout: Layout, template: prompts.Template, tokenizer: Tokenizer, truncation: Truncation
) -> list[str]:
  """Each row's x with as much of the column as fits; the whole of it where it fits, or cannot be made to.

  Raises:
    UserError: x is not made of the column.
  """

  def count(texts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in tokenizer.encode_prompts(texts)]

  return cut_prompts(rows, layout, lambda row, x: prompt_text(template, row, x), count, truncation)


def cut_prompts(rows: Sequence[Row], layout: Layout, prompt: Prompt, count: Count, truncation: Truncation) -> list[str]:
  """The same for prompts of any kind.

  Args:
    prompt: that of a row with this x.
    count: the tokens of each of these prompts.
  """
  lengths = count([prompt(row, row.x) for row in rows])
  return [
    row.x if length <= truncation.limit else _cut(row, layout, prompt, count, truncation)
    for row, length in zip(rows, lengths, strict=True)
  ]


def _cut(row: Row, layout: Layout, prompt: Prompt, count: Count, truncation: Truncation) -> str:
  truncation.check(row.fields)
  value = row.fields[truncation.column]
  pieces = EXEMPLAR if truncation.side == "exemplars" else r"\X"
  ends = [0, *(match.end() for match in regex.finditer(pieces, value))]

  def kept(characters: int) -> str:
    whole = len(ends) - 1
    part = value[ends[whole - characters] :] if truncation.side == "left" else value[: ends[characters]]
    return compose(layout, {**row.fields, truncation.column: part})

  def fits(characters: int) -> bool:
    return count([prompt(row, kept(characters))])[0] <= truncation.limit

  return kept(_most(len(ends) - 1, fits)) if fits(0) else row.x


def _most(too_many: int, fits: Callable[[int], bool]) -> int:
  """A number that fits of which the next does not; 0 fits and `too_many` does not."""
  low = 0
  while too_many - low > 1:
    middle = (low + too_many) // 2
    low, too_many = (middle, too_many) if fits(middle) else (low, middle)
  return low
