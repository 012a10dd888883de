"""`report.html`: one file that needs nothing else, from a run folder. Written anew after every run of a comparison."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import pathlib
import re
from collections.abc import Sequence
from typing import Any

from fiat_jax.evaluation import verdict
from fiat_jax.report import ablation, figures, languages, results, rows, tables, unaided
from fiat_jax.report.results import Comparison, Result
from fiat_jax.report.table import Table
from fiat_jax.whole import write_whole

NAME = "report.html"
SURE = f"{100 * (1 - verdict.ERROR):g} % interval"

LANGUAGE_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*")  # BCP 47, roughly: what `lang` may be in HTML


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """A part of the page: pictures and tables under a heading, with sentences about them."""

  name: str
  heading: str
  words: Sequence[str] = ()
  pictures: Sequence[str] = ()
  tables: Sequence[Table] = ()


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
    alike=figures.alike(comparison),
    small=figures.by_language(comparison, measures[0], by_language),
    by_language=tables.languages(comparison, by_language, languages.few_groups(comparison)) if by_language else None,
    parts=[
      part
      for part in (
        _kinds(comparison),
        _parts(comparison),
        *_gains(comparison),
        _curves(comparison),
        _sizes(comparison),
        _tried(comparison),
      )
      if part
    ],
    models=[part for part in (_crossed(comparison), _unaided(comparison)) if part],
    disagreements=disagreements,
    disagreeing=disagreeing,
    rightness=rows.rightness(comparison),
    audit=_audit(comparison),
    pairs=tables.pairs(comparison, SURE),
    rule=_paragraphs(verdict.RULE),
    left=[name for name in comparison.planned if name not in {result.name for result in comparison.results}],
    sure=SURE,
  )


def _kinds(comparison: Comparison) -> Part | None:
  found = [table for table in (tables.kinds(comparison), tables.ladder(comparison, SURE)) if table]
  found += tables.published(comparison)
  return Part(name="paper", heading="In the paper's shapes", tables=found) if found else None


def _parts(comparison: Comparison) -> Part | None:
  found = [part for part in ablation.parts(comparison) if comparison.pair(part.more, part.less)]
  if not found:
    return None
  return Part(
    name="what-each-part-brings",
    heading="What each part brings",
    words=[
      "Pairs of recipes that differ in one switch alone. Coloured: shown to differ from 0; "
      "p is corrected by Holm where the pick is in neither, the interval is not."
    ],
    pictures=[figures.parts(comparison, found, SURE)],
    tables=[tables.parts(comparison, found, SURE)],
  )


def _gains(comparison: Comparison) -> list[Part]:
  found = [
    gains
    for part in ablation.parts(comparison)
    if part.switch == "reasoning" and (gains := languages.gains(comparison, part.more, part.less))
  ]
  return [
    Part(
      name=f"gain-{gains.more.name}-{gains.less.name}",
      heading=f"Who gains from reasoning: {gains.more.title} over {gains.less.title}",
      words=[_of_correlation(gains)],
      pictures=[figures.gains(gains, comparison.metric)],
      tables=[tables.gains(gains, comparison.metric)],
    )
    for gains in found
  ]


def _of_correlation(gains: languages.Gains) -> str:
  if gains.correlation is None or gains.unbiased is None:
    return "All languages score or gain the same, so there is no correlation to tell."
  return (
    f"Over {len(gains.points)} languages gain and score without reasoning correlate by {gains.correlation:+.2f}. "
    "Chance alone makes this negative, as luck in the score is missing in the gain. Against the mean of both scores, "
    f"where luck cancels, it is {gains.unbiased:+.2f}."
  ).replace("-", "−")


def _curves(comparison: Comparison) -> Part | None:
  drawn = figures.curves_of(comparison)
  if not drawn:
    return None
  return Part(
    name="over-training",
    heading="Over training",
    words=["Validation chooses the checkpoint; step 0 is the model as it came. Over several seeds, the mean."],
    pictures=[figures.curves(comparison, drawn)],
    tables=[tables.curves(comparison, drawn)],
  )


def _sizes(comparison: Comparison) -> Part | None:
  drawn = [result for result in comparison.results if "sizes" in result.record]
  if not drawn:
    return None
  return Part(
    name="learning-curve",
    heading="Would more labels help?",
    words=[_of_more(result) for result in drawn],
    pictures=[figures.sizes(comparison, drawn)],
    tables=[tables.sizes(comparison, drawn, SURE)],
  )


def _of_more(result: Result) -> str:
  more = result.record["sizes"]["more"]
  low, high = more["interval"]
  told = "they would help" if low > 0 else "they would not" if high < 1 else "this data cannot tell"
  return (
    f"{result.title}: {more['rows']} labels more would bring about {more['gain']:+.1f} points ({low:.1f} to "
    f"{high:.1f}) if its curve goes on as it came: {told}."
  ).replace("-", "−")


def _tried(comparison: Comparison) -> Part | None:
  drawn = [result for result in comparison.results if "tried" in result.record]
  if not drawn:
    return None
  return Part(
    name="tried",
    heading="Settings tried",
    words=[
      "Each recipe that trains got the same trials, with the first seed, and validation chose. A choice at the end of "
      "what was tried may have a better one beyond it."
    ],
    tables=[tables.tried(drawn, comparison.metric)],
  )


def _crossed(comparison: Comparison) -> Part | None:
  found = rows.crossed(comparison)
  if not found:
    return None
  total = len(comparison.answers)
  return Part(
    name="right-and-wrong",
    heading="Does the tuned model correct the big one?",
    words=[f"Test rows by whose answer is right ({rows.rightness(comparison)}). Over several seeds, the mean."],
    tables=[tables.crossed(one, total) for one in found],
  )


def _unaided(comparison: Comparison) -> Part | None:
  found = unaided.unaided(comparison)
  if not found:
    return None
  return Part(
    name="unavailable",
    heading="Where the big model is unavailable",
    words=["The tuned model, which learned with reasoning, asked without it; no part of the verdict."],
    tables=[tables.unaided(comparison, found, SURE)],
  )


def _audit(comparison: Comparison) -> Part:
  found = [table for table in (tables.rows(comparison), tables.faults(comparison)) if table]
  return Part(name="audit", heading="The rows and the answers", words=comparison.warnings, tables=found)


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
