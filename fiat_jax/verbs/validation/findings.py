"""What `fiat validate` has to warn of, and how rows and numbers are named in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fiat_jax.data.rows import Row

PLACES_SHOWN = 3


class Findings:
  """Collects warnings; `files` are the split files, by which rows are named."""

  def __init__(self, files: Mapping[str, str]):
    self.warnings: list[str] = []
    self._files = files

  def warn(self, text: str) -> None:
    self.warnings.append(text)

  def place(self, split: str, row: Row) -> str:
    """`FILE:LINE` of a row."""
    return f"{self._files[split].split('[')[0]}:{row.line}"

  def places(self, split: str, rows: Sequence[Row]) -> str:
    """The first rows' places in a sentence: `FILE:LINE, FILE:LINE and 7 more`."""
    return listed([self.place(split, row) for row in rows[:PLACES_SHOWN]], len(rows))

  def pairs(self, splits: tuple[str, str], pairs: Sequence[tuple[Row, Row]], notes: Sequence[str] = ()) -> str:
    """The first pairs' places; `notes` stand after each of those."""
    shown = [f"{self.place(splits[0], one)} and {self.place(splits[1], other)}" for one, other in pairs[:PLACES_SHOWN]]
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
