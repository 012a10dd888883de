"""Results as a table in Markdown, which reads well in a terminal too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fiat_jax.evaluation import power, verdict
from fiat_jax.evaluation.published import Beside, Figure, caveats, over, whose
from fiat_jax.evaluation.statistics import ERROR, FEWEST_GROUPS, SEED_SCATTER
from fiat_jax.evaluation.verdict import Verdict

FAULTS = ("empty", "unfinished", "unparsed")
SURE = f"{100 * (1 - ERROR):g} % interval"


def table(results: Sequence[Mapping[str, Any]], names: Sequence[str], split: str) -> str:
  """A row a recipe: every metric overall (macro average over languages), the first metric by language, faulty answers.

  Args:
    results: each holds `title` and, under the split's name, what `evaluate.summarise` gives; where all hold
      `interval`, that of the first metric, it is shown.
  """
  scored = [(result, result[split]) for result in results if split in result]
  langs = list(scored[0][1]["languages"]) if scored else []
  langs = langs if len(langs) > 1 else []
  header = [f"{split}, {scored[0][1]['rows']} rows" if scored else split, names[0]]
  sure = bool(scored) and all("interval" in result for result, _ in scored)
  header += [SURE] * sure + [*names[1:], *langs, "no whole answer"]
  rows = [header, ["---"] + ["---:"] * (len(header) - 1)]
  for result, summary in scored:
    cells = [result["title"], *(_score(summary["overall"].get(name)) for name in names)]
    cells[2:2] = ["{:.1f} to {:.1f}".format(*result["interval"])] if sure else []
    cells += [f"{summary['languages'].get(lang, {}).get(names[0], float('nan')):.1f}" for lang in langs]
    rows.append([*cells, f"{round(sum(summary[fault] for fault in FAULTS), 1):g}"])
  note = f"\nBy language: {names[0]}. Overall: the plain mean over languages." if langs else ""
  return lay_out(rows) + note


def errors(summary: Mapping[str, Any]) -> str:
  """The metrics of each row with their standard errors, in one line."""
  known = {name: error for name, error in summary["standard_error"].items() if error is not None}
  shown = ", ".join(f"{name} {summary['overall'][name]:.1f} ± {error:.1f}" for name, error in known.items())
  return f"With standard errors: {shown}" if shown else "One group of rows has no standard error"


def suite(summaries: Sequence[tuple[str, Sequence[str], Mapping[str, Any], Sequence[Figure]]]) -> str:
  """A row a task and metric of a suite: task, its metrics, what `evaluate.summarise` gives, and what is published."""
  known = [figure for *_, figures in summaries for figure in figures if not figure.langs]
  others = list(dict.fromkeys(figure.who for figure in known))
  rows = [["task", "rows", "metric", "score", "standard error", *others], ["---"] + ["---:"] * (4 + len(others))]
  for task, names, summary, figures in summaries:
    for name in names:
      cells = [_score(summary["overall"].get(name)), _score(summary["standard_error"].get(name))]
      theirs = {figure.who: figure.score for figure in figures if figure.metric == name and not figure.langs}
      rows.append([task, str(summary["rows"]), name, *cells, *(_score(theirs.get(who)) for who in others)])
  return lay_out(rows)


def _score(value: float | None) -> str:
  return "-" if value is None else f"{value:.1f}"  # a metric that these answers do not have, as auc_pr of texts


def published(rows: Sequence[Beside]) -> str:
  """What is published of recipes that were run, beside what they score here; empty where nothing is."""
  if not rows:
    return ""
  names = whose(rows)
  cells = [["published", "metric", "mean over", "here", *names], ["---"] + ["---:"] * (3 + len(names))]
  for row in rows:
    scores = [_score(row.scores.get(name)) for name in names]
    cells.append([row.title, row.metric, over(row) or "all", _score(row.here), *scores])
  return "\n\n".join([lay_out(cells), *caveats(rows)])


def losses(results: Sequence[Mapping[str, Any]], names: Sequence[str], split: str) -> str:
  """A row a recipe: the scores of `teacher_forced.score` on a split, and before the first step where that is known.

  Args:
    results: each holds `title`, under the split's name `rows`, `pieces`, `overall`, and perhaps `before`, validation's
      scores before the first step.
  """
  rows = [[f"{split}, {results[0][split]['rows']} rows", *names], ["---"] + ["---:"] * len(names)]
  for result in results:
    rows.append([result["title"], *(f"{result[split]['overall'][name]:.4g}" for name in names)])
    if split == "validation" and "before" in result:
      rows.append(["before", *(f"{result['before'][name]:.4g}" for name in names)])
  return lay_out(rows)


def markdown(
  results: Sequence[Mapping[str, Any]],
  names: Sequence[str],
  found: Verdict | None,
  could_show: str = "",
  note: str = "",
  beside: Sequence[Beside] = (),
  searched: Sequence[Mapping[str, Any]] = (),
  not_run: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
  folds: int = 0,
  basis: Mapping[str, Any] = MappingProxyType({}),
  warnings: Sequence[str] = (),
  to_come: Sequence[str] = (),
) -> str:
  """The page of a comparison: its table on test, the verdict in words, every pair, and the rule.

  Args:
    found: None while the comparison goes on, or where it has no verdict.
    could_show: what was said of the test rows' power before the work.
    note: what is to be known of the model.
    beside: what papers publish of these recipes.
    searched: the trail of a search of prompts.
    not_run: `title`, `needs` and `command` of recipes that were left out.
    folds: over how many, 0 where there are none.
    basis: `models`, `train_rows` and `seeds` of what was tuned, whether settings were `searched`, and the column of
      `reasoning`, where a recipe reads one.
    warnings: of the rows and of scores that look odd.
    to_come: what is still to be run, in words.
  """
  told = [*goes_on(to_come), *of_runs(basis, results), *([over_folds(folds)] if folds else [])]
  parts = [table(results, names, "test"), *told, *left_out(not_run), *filter(None, [note, published(beside)])]
  parts += [f"Warning: {warning}." for warning in warnings]
  if found:
    titles = {result["recipe"]: result["title"] for result in results}
    parts += [f"## Verdict: {found.outcome}", found.words, found.costs, pairs_table(found, titles)]
    parts += ["## How this was found", verdict.RULE]
    parts += [f"Before the run: {could_show}."] if could_show else []
  parts += ["## Prompts tried", prompts_table(searched)] if searched else []
  return "\n\n".join(parts) + "\n"


def of_runs(basis: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> list[str]:
  """What was tuned on how many rows, over which seeds, how long and how fast; nothing where nothing was."""
  trained = [result for result in results if "learning_rate" in result]
  if not (basis and trained):
    return []
  seeds = basis["seeds"]
  over = f"{len(seeds)} seeds, whose mean every score is" if len(seeds) > 1 else f"one seed ({seeds[0]})"
  steps = lambda of: f"{of['steps']:,} steps " if "steps" in of else ""  # noqa: E731  over folds they differ
  how = "; ".join(f"{of['title']}: {steps(of)}at a rate of {of['learning_rate']:g}" for of in trained)
  searched = "" if basis.get("searched", True) else "; not searched (--try_learning_rates and --try_epochs do)"
  read = f" The reasoning is the column {column}." if (column := basis.get("reasoning")) else ""
  return [f"{' and '.join(basis['models'])}, tuned on {basis['train_rows']:,} rows; {over}. {how}{searched}.{read}"]


def goes_on(to_come: Sequence[str]) -> list[str]:
  """A line where something is still to be run."""
  return [f"The comparison goes on; to come: {', '.join(to_come)}."] if to_come else []


def over_folds(count: int) -> str:
  return f"Over {count} folds: each row was tested once, by models that learned from other folds' rows."


def left_out(not_run: Mapping[str, Mapping[str, str]]) -> list[str]:
  """A line for all that need the same."""
  titles: dict[tuple[str, str], list[str]] = {}
  for of in not_run.values():
    titles.setdefault((of["needs"], of.get("command", "")), []).append(of["title"])
  lines = []
  for (needs, command), of in titles.items():
    line = f"Not run: {'; '.join(of)}: {'needs' if len(of) == 1 else 'need'} {needs}."
    lines.append(f"{line} To run {'it' if len(of) == 1 else 'them'}: `{command}`" if command else line)
  return lines


def prompts_table(trail: Sequence[Mapping[str, Any]]) -> str:
  """A row a wording that was scored, as one line of text."""
  rows = [["for", "written by", "score", SURE, "", "wording"], ["---"] * 6]
  for one in (one for one in trail if "score" in one):
    ends = "{:.1f} to {:.1f}".format(*one["interval"]) if one["interval"] else "-"
    text = " ".join(one["text"].split()).replace("|", "\\|")
    rows.append([one["setting"], one["by"], f"{one['score']:.1f}", ends, "chosen" if one["chosen"] else "", text])
  return lay_out(rows)


def pairs_table(found: Verdict, titles: Mapping[str, str]) -> str:
  """A row a pair of recipes, those with the pick first."""
  rows = [[f"{found.metric} on test", "difference", SURE, "p", "could show"], ["---"] + ["---:"] * 4]
  for pair in found.pairs:
    p = f"{pair.p:.2g}" + ("" if found.apart and found.pick in (pair.first, pair.second) else " (Holm)")
    could_show = "-" if pair.could_show is None else f"{pair.could_show:.1f}"
    ends = "{:.1f} to {:.1f}".format(*pair.interval)
    rows.append([f"{titles[pair.first]} - {titles[pair.second]}", f"{pair.difference:+z.1f}", ends, p, could_show])
  return lay_out(rows)


def power_line(langs: Sequence[str], groups: Sequence[str], seeds: int = 0) -> str:
  """What test rows with these languages and groups can show, told before any work.

  Args:
    seeds: of each recipe; 0: nothing is tuned.
  """
  precision = power.planned(langs, groups, seeds=seeds)
  needed = precision.rows_for(verdict.SHOWN, len(groups))
  rows = f"would take about {verdict.round_up(needed):,} rows" if needed else "no number of rows would, but more seeds"
  if precision.groups < FEWEST_GROUPS:
    found = f"test: {precision.groups} groups of rows can show no difference; {FEWEST_GROUPS} are the least"
  else:
    found = f"test: {len(groups):,} rows in {precision.groups:,} groups can show a difference of about "
    found += f"{precision.detectable():.0f} points"
  scatter = f", and each of {seeds} seeds" if seeds > 1 else ", and a seed"
  return (
    f"{found}; {verdict.SHOWN:g} points {rows} (in {100 * power.POWER:g} % of runs, if two "
    f"recipes disagree on {100 * power.DISCORDANCE:g} % of the rows, correlated by {power.WITHIN:g} within a group"
    + (f"{scatter} scatters by {SEED_SCATTER:g} point)" if seeds else ")")
  )


def lay_out(rows: Sequence[Sequence[str]]) -> str:
  widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
  lines = [
    "| " + " | ".join(_cell(cell, width, n) for n, (cell, width) in enumerate(zip(row, widths, strict=True))) + " |"
    for row in rows
  ]
  return "\n".join(lines)


def _cell(cell: str, width: int, column: int) -> str:
  if cell.startswith("---"):
    return "-" * (width - 1) + ":" if column else "-" * width
  return cell.rjust(width) if column else cell.ljust(width)
