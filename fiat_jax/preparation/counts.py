"""Whether what a set became is what its makers publish: which languages and how many rows."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence

from fiat_jax.errors import UserError

Counts = Mapping[
  str, Mapping[str, int]
]  # by `VIEW/SPLIT` and language; of what is published, perhaps by VIEW alone or all together
SHOWN = 6


def missing(found: Counts, published: Counts) -> list[str]:
  """Which languages and rows are missing, and how many."""
  return [
    f"{what} is missing" if not have else f"{what} has {have:,} of {wanted:,} rows"
    for what, have, wanted in _compared(found, published)
    if have < wanted
  ]


def check(found: Counts, published: Counts, name: str) -> None:
  """Raises UserError where a language is missing or rows are: which, and how many."""
  if lacking := missing(found, published):
    raise UserError(
      f"{name} is not whole: {listed(lacking)}. Nothing was prepared: fetch it again, from its official address, or "
      "take it as it is with --incomplete"
    )


def listed(lacking: Sequence[str]) -> str:
  """The first of what is missing, and how much more."""
  more = f" and {len(lacking) - SHOWN} more" if len(lacking) > SHOWN else ""
  return f"{'; '.join(lacking[:SHOWN])}{more}"


def longer(found: Counts, published: Counts) -> list[str]:
  """What has more rows than are published: another version, perhaps."""
  return [
    f"{what} has {have:,} rows, and {wanted:,} are published"
    for what, have, wanted in _compared(found, published)
    if have > wanted
  ]


def _compared(found: Counts, published: Counts) -> Iterator[tuple[str, int, int]]:
  """What is counted, how many rows there are of it, and how many there should be."""
  for part, languages in published.items():
    here = [counts for name, counts in found.items() if not part or name == part or name.startswith(f"{part}/")]
    for lang, wanted in languages.items():
      have = sum(counts.get(lang, 0) if lang else sum(counts.values()) for counts in here)
      yield f"{part} {lang}".strip() or "it", have, wanted


class Tally:
  """Counts rows as they come."""

  def __init__(self):
    self.counts: dict[str, dict[str, int]] = collections.defaultdict(lambda: collections.defaultdict(int))

  def add(self, part: str, lang: str) -> None:
    self.counts[part][lang] += 1

  def plain(self) -> dict[str, dict[str, int]]:
    """Languages and parts sorted."""
    return {part: dict(sorted(langs.items())) for part, langs in sorted(self.counts.items())}
