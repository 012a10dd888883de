"""The sections of the page behind its first picture: each a heading, sentences, pictures and tables."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from fiat_jax.evaluation import verdict
from fiat_jax.report import (
  ablation,
  languages,
  part_figures,
  part_tables,
  prompts,
  published,
  rows,
  tables,
  training_figures,
  unaided,
)
from fiat_jax.report.results import Comparison, Result
from fiat_jax.report.table import Table

SURE = f"{100 * (1 - verdict.ERROR):g} % interval"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """A part of the page: pictures and tables under a heading, with sentences about them."""

  name: str
  heading: str
  words: Sequence[str] = ()
  pictures: Sequence[str] = ()
  tables: Sequence[Table] = ()


def of(comparison: Comparison) -> list[Part]:
  """Those that this comparison has something for, the audit aside."""
  found = [
    _kinds(comparison),
    _parts(comparison),
    *_uses(comparison),
    *_gains(comparison),
    _curves(comparison),
    *_instructed(comparison),
    _sizes(comparison),
    _tried(comparison),
    _prompts(comparison),
    _crossed(comparison),
    _unaided(comparison),
  ]
  return [part for part in found if part]


def _kinds(comparison: Comparison) -> Part | None:
  found = [table for table in (tables.kinds(comparison), tables.ladder(comparison, SURE)) if table]
  found += published.published(comparison)
  return Part(name="paper", heading="In the paper's shapes", tables=found) if found else None


def _parts(comparison: Comparison) -> Part | None:
  found = [part for part in ablation.parts(comparison) if comparison.pair(part.more, part.less)]
  if not found:
    return None
  return Part(
    name="what-each-part-brings",
    heading="What each part brings",
    words=[
      "Pairs of recipes that differ in one switch alone, and where it says so in settings of training. Coloured: shown "
      "to differ from 0; p is corrected by Holm where the pick is in neither, the interval is not."
    ],
    pictures=[part_figures.parts(comparison, found, SURE)],
    tables=[part_tables.parts(comparison, found, SURE)],
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
      pictures=[part_figures.gains(gains, comparison.metric)],
      tables=[part_tables.gains(gains, comparison.metric)],
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


def _uses(comparison: Comparison) -> list[Part]:
  return [
    Part(
      name=f"use-{found.written.name}",
      heading=f"Is reasoning better read or learned? From {found.without.title}, one switch changed",
      words=[
        f"{found.without.title} does without the big model's reasoning; {found.written.title} learned to write it and "
        "needs nobody's afterwards; one that reads it needs an answer of the big model each time. Coloured: shown to "
        "differ from the first (the paper's Figure 4)."
      ],
      pictures=[part_figures.uses(comparison, found, SURE)],
      tables=[part_tables.uses(comparison, found, SURE)],
    )
    for found in ablation.uses(comparison)
  ]


def _instructed(comparison: Comparison) -> list[Part]:
  """Figures 5 and 6."""
  found = []
  for part in ablation.parts(comparison):
    names = (part.more.name, part.less.name)
    drawn = [pair for pair in training_figures.curves_of(comparison) if pair[0].name in names]
    if part.switch == "instruction" and len(drawn) == 2:
      name = f"instruction-{part.more.name}"
      found.append(
        Part(
          name=f"over-training-{part.more.name}",
          heading=f"With and without instruction over training: {part.more.title}",
          words=["From step 0, the model before any tuning (the paper's Figure 5)."],
          pictures=[training_figures.curves(comparison, drawn, name)],
          tables=[part_tables.curves(comparison, drawn, name)],
        )
      )
  for tuned, base in ablation.instructed(comparison):
    found.append(
      Part(
        name=f"instructed-models-{tuned.more.name}",
        heading="Does the instruction bring an instruction-tuned model more?",
        words=["What it brings either kind of model, all else the same (the paper's Figure 6)."],
        pictures=[part_figures.instructed(comparison, (tuned, base), SURE)],
        tables=[part_tables.instructed(comparison, part_figures.KINDS_OF_MODEL, (tuned, base), SURE)],
      )
    )
  return found


def _curves(comparison: Comparison) -> Part | None:
  drawn = training_figures.curves_of(comparison)
  if not drawn:
    return None
  return Part(
    name="over-training",
    heading="Over training",
    words=["Validation chooses the checkpoint; step 0 is the model as it came. Over several seeds, the mean."],
    pictures=[training_figures.curves(comparison, drawn)],
    tables=[part_tables.curves(comparison, drawn)],
  )


def _sizes(comparison: Comparison) -> Part | None:
  drawn = [result for result in comparison.results if "sizes" in result.record]
  if not drawn:
    return None
  return Part(
    name="learning-curve",
    heading="Would more labels help?",
    words=[_of_more(result) for result in drawn],
    pictures=[training_figures.sizes(comparison, drawn)],
    tables=[part_tables.sizes(comparison, drawn, SURE)],
  )


def _of_more(result: Result) -> str:
  more = result.record["sizes"]["more"]
  if more["gain"] is None:
    less, whole = (point["rows"] for point in result.record["sizes"]["points"][-2:])
    return (
      f"{result.title}: what {more['rows']} labels more would bring cannot be told from a step of {less} to {whole} "
      "rows, which is too small to be carried on so far: give --try_sizes smaller numbers."
    )
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
      "Each recipe that trains got as many trials, around settings of its own where it has such, with the first seed, "
      "each that is asked in context as many exemplars, and validation chose. A choice at the end of what was tried "
      "may have a better one beyond it."
    ],
    tables=[part_tables.tried(drawn, comparison.metric)],
  )


def _prompts(comparison: Comparison) -> Part | None:
  if not comparison.prompts:
    return None
  return Part(
    name="prompts",
    heading="Prompts tried",
    words=[prompts.WORDS],
    tables=prompts.tables(comparison.prompts, SURE),
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


def audit(comparison: Comparison) -> Part:
  found = [table for table in (tables.rows(comparison), tables.faults(comparison)) if table]
  words = [*comparison.warnings, *([_of_programs(comparison.programs)] if comparison.programs else [])]
  return Part(name="audit", heading="The rows and the answers", words=words, tables=found)


def _of_programs(programs: Mapping[str, int]) -> str:
  return (
    f"{programs['made']} programs were made by the command that ended this comparison, {programs['found']} of them "
    "found compiled by earlier ones. Runs that differ in seed, learning rate, number of steps or of rows share theirs."
  )
