"""The sections about what one switch brings by itself: reasoning, instruction and the rest (Figures 3, 4 and 6)."""

from __future__ import annotations

from fiat_jax.report import ablation, languages, part_figures, part_tables
from fiat_jax.report.part import SURE, Part
from fiat_jax.report.results import Comparison


def parts(comparison: Comparison) -> Part | None:
  found = [part for part in ablation.parts(comparison) if comparison.pair(part.more, part.less)]
  if not found:
    return None
  return Part(
    name="what-each-part-brings",
    heading="What each part brings",
    words=[
      "Pairs of recipes that differ in one switch alone, and where it says so in settings of training. Coloured: shown "
      f"to differ from 0; p is corrected by Holm{'' if comparison.folds else ' where the pick is in neither'}, the "
      "interval is not."
    ],
    pictures=[part_figures.parts(comparison, found, SURE)],
    tables=[part_tables.parts(comparison, found, SURE)],
  )


def gains(comparison: Comparison) -> list[Part]:
  found = [
    one
    for part in ablation.parts(comparison)
    if part.switch == "reasoning" and (one := languages.gains(comparison, part.more, part.less))
  ]
  return [
    Part(
      name=f"gain-{one.more.name}-{one.less.name}",
      heading=f"Who gains from reasoning: {one.more.title} over {one.less.title}",
      words=[_of_correlation(one)],
      pictures=[part_figures.gains(one, comparison.metric)],
      tables=[part_tables.gains(one, comparison.metric)],
    )
    for one in found
  ]


def _of_correlation(gains: languages.Gains) -> str:
  if gains.correlation is None or gains.unbiased is None:
    return "All languages score or gain the same, so there is no correlation to tell."
  return (
    f"Over {len(gains.points)} languages gain and score without reasoning correlate by {gains.correlation:+.2f}. "
    "Chance alone makes this negative, as luck in the score is missing in the gain. Against the mean of both scores, "
    f"where luck cancels, it is {gains.unbiased:+.2f}."
  ).replace("-", "−")


def uses(comparison: Comparison) -> list[Part]:
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


def instructed(comparison: Comparison) -> list[Part]:
  return [
    Part(
      name=f"instructed-models-{tuned.more.name}",
      heading="Does the instruction bring an instruction-tuned model more?",
      words=["What it brings either kind of model, all else the same (the paper's Figure 6)."],
      pictures=[part_figures.instructed(comparison, (tuned, base), SURE)],
      tables=[part_tables.instructed(comparison, part_figures.KINDS_OF_MODEL, (tuned, base), SURE)],
    )
    for tuned, base in ablation.instructed(comparison)
  ]
