"""The tables beside the pictures of parts and of learning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax.report.ablation import Part, Uses
from fiat_jax.report.languages import Gains
from fiat_jax.report.results import Comparison, Result
from fiat_jax.report.table import NONE, Cell, Table, difference, interval, number

SETTINGS = ("learning_rate", "epochs", "shots", "shot_choice")  # that are searched


def parts(comparison: Comparison, found: Sequence[Part], sure: str) -> Table:
  """Beside the picture of what each switch brings."""
  rows = [
    [
      Cell(text=part.called),
      Cell(text=part.more.title),
      Cell(text=part.less.title),
      *difference(comparison.pair(part.more, part.less)),
    ]
    for part in found
  ]
  columns = ["part", "with it", "without it", "gain", sure, "p"]
  return Table(name="parts", caption="What each part brings, one switch at a time", columns=columns, rows=rows)


def uses(comparison: Comparison, found: Uses, sure: str) -> Table:
  """Beside the paper's Figure 4."""
  rows = []
  for called, result in found.ways:
    cells = [Cell(text=called), Cell(text=result.title), number(result.test["overall"][comparison.metric])]
    pair = comparison.pair(result, found.without)
    rows.append([*cells, interval(result.interval), *difference(pair)])
  columns = ["the reasoning is", "recipe", f"{comparison.metric} on test", sure]
  columns += [f"above {found.without.title}", f"{sure} of that", "p"]
  return Table(name=f"uses-{found.written.name}", caption="What is made of the reasoning", columns=columns, rows=rows)


def instructed(comparison: Comparison, kinds: Sequence[str], found: Sequence[Part], sure: str) -> Table:
  """Beside the paper's Figure 6."""
  rows = [
    [
      Cell(text=called),
      Cell(text=part.more.title),
      *(number(result.test["overall"][comparison.metric]) for result in (part.less, part.more)),
      *difference(comparison.pair(part.more, part.less)),
    ]
    for called, part in zip(kinds, found, strict=True)
  ]
  columns = ["model", "recipe", "without instruction", "with it", "gain", sure, "p"]
  name = f"instructed-{found[0].more.name}"
  return Table(name=name, caption="What the instruction brings", columns=columns, rows=rows)


def gains(found: Gains, metric: str) -> Table:
  """Beside the paper's Figure 3."""
  rows = [[Cell(text=lang), number(less), number(gain, "+z.1f")] for lang, (less, gain) in found.points.items()]
  columns = ["language", f"{metric} without", "gain"]
  caption = f"Gain of {found.more.title} over {found.less.title}"
  return Table(name=f"gains-of-{found.more.name}-{found.less.name}", caption=caption, columns=columns, rows=rows)


def curves(
  comparison: Comparison, drawn: Sequence[tuple[Result, Sequence[tuple[int, float]]]], name: str = "curves"
) -> Table:
  """Beside the paper's Figure 5: validation before the first step, at its best, at the end."""
  rows = []
  for result, points in drawn:
    best = max(points, key=lambda point: point[1])
    cells = [Cell(text=result.title), number(points[0][1]) if points[0][0] == 0 else Cell(text=NONE)]
    rows.append([*cells, number(best[1]), number(best[0], "g"), number(points[-1][1])])
  columns = ["recipe", "before step 1", "best", "at step", "at the end"]
  notes = ["Of several seeds, best is that of their mean; each seed's checkpoint is chosen by its own."]
  several = any(len(result.runs) > 1 for result, _ in drawn)
  caption = f"{comparison.metric} on validation over training"
  return Table(name=name, caption=caption, columns=columns, rows=rows, notes=notes if several else [])


def sizes(comparison: Comparison, drawn: Sequence[Result], sure: str) -> Table:
  """Beside the learning curve: the scores, and what more rows would bring."""
  every = sorted({point["rows"] for result in drawn for point in result.record["sizes"]["points"]})
  more = drawn[0].record["sizes"]["more"]["rows"]
  rows = []
  for result in drawn:
    found = {point["rows"]: point["test"] for point in result.record["sizes"]["points"]}
    ahead = result.record["sizes"]["more"]
    cells = [Cell(text=result.title), *(number(found.get(size)) for size in every)]
    rows.append([*cells, number(ahead["gain"], "+z.1f"), interval(ahead["interval"])])
  columns = ["recipe", *(f"{size:,} rows" for size in every), f"{more} rows more", sure]
  note = (
    f"{more} rows more: what the last step brought a doubling, carried on; curves flatten, so it is what to hope for."
  )
  return Table(
    name="sizes", caption=f"{comparison.metric} on test by training rows", columns=columns, rows=rows, notes=[note]
  )


def size_gains(comparison: Comparison, parts: Sequence[Part], sure: str) -> Table | None:
  """What each switch brings on each number of training rows; None where that was not asked for."""
  shown = {(part.more.name, part.less.name): part for part in parts}
  rows = []
  for pair in comparison.sizes:
    for sign, names in ((1, (pair["first"], pair["second"])), (-1, (pair["second"], pair["first"]))):
      if part := shown.get(names):
        ends = sorted(sign * end for end in pair["interval"])
        cells = [Cell(text=part.called), Cell(text=part.more.title), Cell(text=part.less.title)]
        cells += [number(pair["rows"], ","), number(sign * pair["difference"], "+z.1f"), interval(ends)]
        rows.append([*cells, number(pair["p"], ".2g")])
  columns = ["part", "with it", "without it", "rows", "gain", sure, "p"]
  note = "All p-values of this table's pairs of recipes are corrected together, by Holm."
  caption = "What each part brings by training rows"
  return Table(name="size-gains", caption=caption, columns=columns, rows=rows, notes=[note]) if rows else None


def _plain(value: float | str) -> str:
  return value if isinstance(value, str) else f"{value:g}"


def _chosen(trial: Mapping[str, Any]) -> str:
  if "chosen_in" in trial:
    return f"chosen in {trial['chosen_in']} folds" if trial["chosen_in"] else ""
  return "chosen" if trial.get("chosen") else ""


def tried(drawn: Sequence[Result], metric: str) -> Table:
  """Settings that were tried on validation."""
  rows = []
  for result in drawn:
    for trial in result.record["tried"]:
      shown = [f"{name} {_plain(trial[name])}" for name in SETTINGS if name in trial]
      cells = [Cell(text=result.title), Cell(text=", ".join(shown)), number(trial["validation"])]
      rows.append([*cells, number(trial.get("best_step"), "g"), Cell(text=_chosen(trial))])
  columns = ["recipe", "settings", f"{metric} on validation", "at step", ""]
  return Table(name="tried", caption="Settings tried, on validation alone", columns=columns, rows=rows)
