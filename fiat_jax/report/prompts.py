"""The trail of a search of prompts, as tables of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax.report.table import NONE, Cell, Table, interval, number

WRITERS = {"settings": "the settings", "file": "by hand", "beta": "the big model"}
CALLED = {"reasoning_instruction": "the big model (I_β)", "instruction": "the tuned model (I_τ)"}
WORDS = (
  "Wordings of an instruction, scored on validation rows that nothing else is chosen on: the big model's by its own "
  "answers, the tuned model's in context, as it came, without reasoning, which is cheaper than tuning it with each and "
  "may prefer another. Of equals the first is chosen. The best of several looks better than it is: the recipes' scores "
  "on test are the ones to go by."
)


def tables(trail: Sequence[Mapping[str, Any]], sure: str) -> list[Table]:
  """One for each instruction that was searched for."""
  return [
    _table(name, [one for one in trail if one["setting"] == name], sure)
    for name in CALLED
    if any(one["setting"] == name for one in trail)
  ]


def _table(name: str, trail: Sequence[Mapping[str, Any]], sure: str) -> Table:
  scored = [one for one in trail if "score" in one]
  rows = []
  for one in trail:
    cells = [
      Cell(text=one["text"]),
      Cell(text=WRITERS[one["by"]]),
      number(one.get("score")),
      interval(one.get("interval")),
    ]
    cells += [number(one.get("no_whole_answer"), "g"), number(one.get("cost"), ".3g")]
    rows.append([*cells, Cell(text="chosen" if one["chosen"] else one.get("fault", ""))])
  metric = f"{scored[0]['metric']} on {scored[0]['rows']} rows" if scored else NONE
  columns = ["wording", "written by", metric, sure, "no whole answer", "money", ""]
  return Table(name=f"prompts-{name}", caption=f"Wordings for {CALLED[name]}", columns=columns, rows=rows)
