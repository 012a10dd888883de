"""Results as a table in Markdown, which reads well in a terminal too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(results: Sequence[Mapping[str, Any]], names: Sequence[str], split: str) -> str:
  """A row a recipe: every metric overall (macro average over languages), the first metric by language, faulty answers.

  Args:
    results: each holds `title` and, under the split's name, what `evaluate.summarise` gives.
  """
  scored = [(result, result[split]) for result in results if split in result]
  langs = list(scored[0][1]["languages"]) if scored else []
  langs = langs if len(langs) > 1 else []
  header = [f"{split}, {scored[0][1]['rows']} rows" if scored else split, *names]
  header += [f"{lang}" for lang in langs] + ["no whole answer"]
  rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
  for result, summary in scored:
    cells = [result["title"], *(f"{summary['overall'][name]:.1f}" for name in names)]
    cells += [f"{summary['languages'].get(lang, {}).get(names[0], float('nan')):.1f}" for lang in langs]
    rows.append([*cells, str(summary["empty"] + summary["unfinished"] + summary["unparsed"])])
  widths = [max(len(row[n]) for row in rows) for n in range(len(header))]
  lines = [
    "| " + " | ".join(_cell(cell, width, n) for n, (cell, width) in enumerate(zip(row, widths, strict=True))) + " |"
    for row in rows
  ]
  note = f"\nBy language: {names[0]}. Overall: the plain mean over languages." if langs else ""
  return "\n".join(lines) + note


def _cell(cell: str, width: int, column: int) -> str:
  if cell.startswith("---"):
    return "-" * (width - 1) + ":" if column else "-" * width
  return cell.rjust(width) if column else cell.ljust(width)
