"""A table as plain values: what stands in each cell, and what it is sorted by. `page.html` lays it out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

NONE = "–"  # what stands where there is nothing to say


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
  """`by`: the number it is sorted by, None for a text, which is sorted as such. `mark`: a class of page.css."""

  text: str
  by: float | None = None
  mark: str = ""

  @property
  def number(self) -> bool:
    return self.by is not None or self.text == NONE


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
  """`rows` hold a cell for each of `columns`; the first one heads its row. `notes` stand below."""

  name: str
  caption: str
  columns: Sequence[str]
  rows: Sequence[Sequence[Cell]]
  notes: Sequence[str] = ()


def number(value: float | None, form: str = ".1f", mark: str = "") -> Cell:
  return Cell(text=NONE) if value is None else Cell(text=format(value, form).replace("-", "−"), by=value, mark=mark)


def interval(ends: Sequence[float] | None) -> Cell:
  """Sorted by its lower end."""
  if ends is None:
    return Cell(text=NONE)
  return Cell(text=f"{ends[0]:.1f} to {ends[1]:.1f}".replace("-", "−"), by=ends[0])


def difference(pair: Mapping[str, Any] | None) -> list[Cell]:
  """Of a pair of recipes on test: by how much the first is above, the interval, p."""
  if pair is None:
    return [Cell(text=NONE)] * 3
  return [number(pair["difference"], "+z.1f"), interval(pair["interval"]), number(pair["p"], ".2g")]
