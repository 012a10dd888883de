"""The sections about training: validation over its steps (Figure 5), on fewer rows, with other settings."""

from __future__ import annotations

from fiat_jax.report import ablation, part_tables, training_figures
from fiat_jax.report.part import SURE, Part
from fiat_jax.report.results import Comparison, Result


def curves(comparison: Comparison) -> Part | None:
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


def instructed(comparison: Comparison) -> list[Part]:
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
  return found


def sizes(comparison: Comparison) -> Part | None:
  drawn = [result for result in comparison.results if "sizes" in result.record]
  if not drawn:
    return None
  gains = part_tables.size_gains(comparison, ablation.parts(comparison), SURE)
  return Part(
    name="learning-curve",
    heading="Would more labels help?",
    words=[_of_more(result) for result in drawn],
    pictures=[training_figures.sizes(comparison, drawn)],
    tables=[part_tables.sizes(comparison, drawn, SURE), *([gains] if gains else [])],
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
    f"{result.title}: {more['rows']} labels more would bring about {more['gain']:+z.1f} points ({low:.1f} to "
    f"{high:.1f}) if its curve goes on as it came: {told}."
  ).replace("-", "−")


def tried(comparison: Comparison) -> Part | None:
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
