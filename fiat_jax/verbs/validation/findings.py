"""What `fiat validate` has to warn of, and how rows and numbers are named in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fiat_jax.data.rows import Row

PLACES_SHOWN = 3


class Findings:
  """Collects warnings; rows are named by the `files` of their splits, and are given as positions in those."""

  def __init__(self, files: Mapping[str, str], splits: Mapping[str, Sequence[Row]]):
    self.warnings: list[str] = []
    self._files, self._splits = files, splits

  def warn(self, text: str) -> None:
    self.warnings.append(text)

  def row(self, split: str, position: int) -> Row:
    return self._splits[split][position]

  def place(self, split: str, position: int) -> str:
    """`FILE:LINE` of a row."""
    return f"{self._files[split]}:{self.row(split, position).line}"

  def places(self, split: str, rows: Sequence[int] | np.ndarray) -> str:
    """The first rows' places in a sentence: `FILE:LINE, FILE:LINE and 7 more`."""
    return listed([self.place(split, int(row)) for row in rows[:PLACES_SHOWN]], len(rows))

  def pairs(
    self, splits: tuple[str, str], pairs: Sequence[tuple[int, int]] | np.ndarray, notes: Sequence[str] = ()
  ) -> str:
    """The first pairs' places; `notes` stand after each of those."""
    shown = [
      f"{self.place(splits[0], int(one))} and {self.place(splits[1], int(other))}"
      for one, other in pairs[:PLACES_SHOWN]
    ]
    for n, note in enumerate(notes[: len(shown)]):
      shown[n] += f" ({note})"
    return listed(shown, len(pairs), "; ")

  def report(self) -> str:
    """All warnings, for the end."""
    if not self.warnings:
      return "no warnings"
    return "\n".join([f"{many(len(self.warnings), 'warning')}:", *(f"  - {warning}" for warning in self.warnings)])


def listed(shown: Sequence[str], count: int, separator: str = ", ") -> str:
  """What is shown of so many, and how many more there are."""
  more = f" and {count - len(shown):,} more" if count > len(shown) else ""
  return separator.join(shown) + more


def many(count: int, noun: str) -> str:
  return f"{count:,} {noun}{'' if count == 1 else 's'}"


def share(count: int, total: int) -> str:
  return f"{count:,} of {total:,} ({100 * count / total:.1f} %)"
