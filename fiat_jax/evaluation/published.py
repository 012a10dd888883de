"""Scores that papers publish of a task, set beside a run's own over the same languages.

They stand in a table with the columns `who`, `recipe` (empty: any), `metric`, `langs` (codes; empty: all) and `score`,
and perhaps `differs`: what of the paper's work was not as in this task, in a sentence.
"""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax import prompts
from fiat_jax.data.tables import records
from fiat_jax.errors import UserError

COLUMNS = ("who", "recipe", "metric", "langs", "score")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
  """One published score: the plain mean over these languages, or over all where none is named."""

  who: str
  recipe: str
  metric: str
  langs: tuple[str, ...]
  score: float
  differs: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beside:
  """A recipe's score over some languages, None where the run lacks one of them, and what is published, by who did.

  What differs there stands in sentences.
  """

  title: str
  metric: str
  langs: tuple[str, ...]
  here: float | None
  scores: Mapping[str, float]
  differs: tuple[str, ...] = ()


def read(path: str) -> list[Figure]:
  """The figures in a file; none where the path is empty.

  Raises:
    UserError: it has other columns, or a score is no number.
  """
  found = []
  for line, record in records(pathlib.Path(path)) if path else ():
    missing = next((name for name in COLUMNS if name not in record), None)
    if missing:
      raise UserError(f"there is no column {missing!r} ({prompts.nearest(missing, record)})", path, line)
    texts = {name: str(record.get(name) or "") for name in (*COLUMNS, "differs")}
    try:
      score = float(texts["score"])
    except ValueError:
      raise UserError(f"the score {texts['score']!r} is no number", path, line) from None
    found.append(Figure(**{**texts, "langs": tuple(texts["langs"].split()), "score": score}))
  return found


def beside(figures: Sequence[Figure], results: Sequence[Mapping[str, Any]], split: str) -> list[Beside]:
  """Every published figure of a recipe that was run, those of one recipe, metric and languages together.

  Args:
    results: each holds `recipe`, `title` and, under the split's name, what `evaluate.summarise` gives.
  """
  rows: dict[tuple[str, str, tuple[str, ...]], Beside] = {}
  for result in results:
    for figure in figures:
      if figure.recipe not in ("", result["recipe"]) or figure.metric not in result[split]["overall"]:
        continue
      key = (result["recipe"], figure.metric, figure.langs)
      row = rows.setdefault(
        key,
        Beside(
          title=result["title"] or result["recipe"],
          metric=figure.metric,
          langs=figure.langs,
          here=_score(result[split], figure.metric, figure.langs),
          scores={},
        ),
      )
      differs = dict.fromkeys((*row.differs, *filter(None, [figure.differs])))
      rows[key] = dataclasses.replace(row, scores={**row.scores, figure.who: figure.score}, differs=tuple(differs))
  return list(rows.values())


def over(row: Beside) -> str:
  """What the means of a row are over."""
  return " ".join(row.langs) if len(row.langs) < 2 else f"{len(row.langs)} languages"


def whose(rows: Sequence[Beside]) -> list[str]:
  """Who published anything that stands in the rows."""
  return list(dict.fromkeys(who for row in rows for who in row.scores))


def caveats(rows: Sequence[Beside]) -> list[str]:
  """What differs between what was run and what is published."""
  return list(dict.fromkeys(words for row in rows for words in row.differs))


def _score(summary: Mapping[str, Any], metric: str, langs: Sequence[str]) -> float | None:
  if not langs:
    return summary["overall"][metric]
  scores = [summary["languages"].get(lang, {}).get(metric) for lang in langs]
  known = [score for score in scores if score is not None]
  return statistics.fmean(known) if len(known) == len(scores) else None
