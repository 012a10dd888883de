"""The page's tables of what papers publish, beside what was run."""

from __future__ import annotations

from collections.abc import Sequence

from fiat_jax.evaluation.published import Beside, beside, caveats, over, whose
from fiat_jax.report.results import Comparison
from fiat_jax.report.table import Cell, Table, number

NOTE = "Other models, and perhaps other reasoning: what may be alike is which recipe is above which, and by how much."


def published(comparison: Comparison) -> list[Table]:
  """What the papers have of recipes that were run: over languages, then of each of them."""
  rows = beside(comparison.published, [result.record for result in comparison.results], "test")
  means, single = [row for row in rows if len(row.langs) != 1], [row for row in rows if len(row.langs) == 1]
  return [
    _table(found, name, caption)
    for found, name, caption in (
      (means, "published", "Beside what is published"),
      (single, "published-by-language", "Beside what is published, by language"),
    )
    if any(row.here is not None for row in found)
  ]


def _table(found: Sequence[Beside], name: str, caption: str) -> Table:
  names = whose(found)
  rows = [
    [Cell(text=row.title), Cell(text=row.metric), Cell(text=over(row) or "all"), number(row.here)]
    + [number(row.scores.get(who)) for who in names]
    for row in found
    if row.here is not None
  ]
  columns = ["recipe", "metric", "mean over", "here", *names]
  return Table(name=name, caption=caption, columns=columns, rows=rows, notes=[NOTE, *caveats(found)])
