"""`report.html`: one file that needs nothing else, from a run folder. Written anew after every run of a comparison."""

from __future__ import annotations

import functools
import importlib.resources
import pathlib
import re
from typing import Any

from fiat_jax.evaluation import report, verdict
from fiat_jax.report import figures, languages, results, rows, sections, standing, tables
from fiat_jax.report.part import SURE
from fiat_jax.report.results import Comparison
from fiat_jax.whole import write_whole

NAME = "report.html"

LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")  # BCP 47, roughly: what `lang` may be in HTML


def write(folder: pathlib.Path) -> None:
  """Makes the page of a run folder.

  Raises:
    UserError: `results.json` or predictions are missing or broken.
  """
  write_whole(folder / NAME, page(results.read(folder)))


def page(comparison: Comparison) -> str:
  """The page as HTML. Whatever comes from rows or settings is escaped."""
  by_language = languages.scores(comparison) if len(comparison.languages) > 1 else {}
  measures = figures.measures(comparison)
  disagreements, disagreeing = rows.disagreements(comparison)
  return _template().render(
    comparison=comparison,
    style=_resource("page.css"),
    script=_resource("page.js"),
    first=[figures.first(comparison, measure, SURE) for measure in measures],
    overview=tables.recipes(comparison, SURE),
    caption=standing.caption(comparison, SURE),
    small=figures.by_language(comparison, measures[0], by_language),
    key=figures.key(comparison),
    by_language=tables.languages(comparison, by_language, languages.few_groups(comparison)) if by_language else None,
    sections=sections.of(comparison),
    disagreements=disagreements,
    first_rows=rows.order(comparison),
    disagreeing=disagreeing,
    rightness=rows.rightness(comparison),
    audit=sections.audit(comparison),
    pairs=tables.pairs(comparison, SURE),
    rule=_paragraphs(verdict.RULE),
    told=[
      *report.goes_on(comparison.to_come),
      *report.of_runs(comparison.basis, [result.record for result in comparison.results]),
      *([report.over_folds(comparison.folds)] if comparison.folds else []),
      *report.left_out(comparison.not_run),
    ],
    sure=SURE,
  )


def _paragraphs(text: str) -> list[list[str]]:
  """Paragraphs of wrapped text; a list's items, which begin with a hyphen, are each a part of theirs."""
  return [[" ".join(item.split()) for item in ("\n" + paragraph).split("\n- ")] for paragraph in text.split("\n\n")]


def _template() -> Any:
  import jinja2

  environment = jinja2.Environment(
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.tests["language_tag"] = lambda text: bool(LANGUAGE_TAG.fullmatch(text)) and text != "und"
  return environment.from_string(_resource("page.html"))


@functools.cache
def _resource(name: str) -> str:
  return (importlib.resources.files("fiat_jax.report") / name).read_text(encoding="utf-8")
