"""The sections of the page behind its first picture: each a heading, sentences, pictures and tables."""

from __future__ import annotations

from collections.abc import Mapping

from fiat_jax.report import prompts, published, rows, switch_sections, tables, training_sections, unaided
from fiat_jax.report.part import SURE, Part
from fiat_jax.report.results import Comparison


def of(comparison: Comparison) -> list[Part]:
  """Those that this comparison has something for, the audit aside."""
  found = [
    _kinds(comparison),
    switch_sections.parts(comparison),
    *switch_sections.uses(comparison),
    *switch_sections.gains(comparison),
    training_sections.curves(comparison),
    *training_sections.instructed(comparison),
    *switch_sections.instructed(comparison),
    training_sections.sizes(comparison),
    training_sections.tried(comparison),
    _prompts(comparison),
    _crossed(comparison),
    _unaided(comparison),
  ]
  return [part for part in found if part]


def _kinds(comparison: Comparison) -> Part | None:
  found = [table for table in (tables.kinds(comparison), tables.ladder(comparison, SURE)) if table]
  found += published.published(comparison)
  return Part(name="paper", heading="In the paper's shapes", tables=found) if found else None


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
  found = [table for make in (tables.rows, tables.labels, tables.tokens, tables.faults) if (table := make(comparison))]
  words = [*comparison.warnings, *([_of_programs(comparison.programs)] if comparison.programs else [])]
  return Part(name="audit", heading="The rows and the answers", words=words, tables=found)


def _of_programs(programs: Mapping[str, int]) -> str:
  return (
    f"{programs['made']} programs were made for this comparison, {programs['found']} of them found compiled by "
    "earlier commands. Runs that differ in seed, learning rate, number of steps or of rows share theirs."
  )
