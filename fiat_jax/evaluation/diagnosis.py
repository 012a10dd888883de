"""What results look like when something other than the model is wrong, with likely causes. Never changes a score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def doubts(results: Sequence[Mapping[str, Any]], names: Sequence[str], split: str) -> list[str]:
  """A sentence for each recipe whose answers are all faulty, or of which a metric is 0 though there are answers.

  Args:
    results: each holds `title` and, under the split's name, what `evaluate.summarise` gives.
  """
  return [
    f"{result['title']}: {doubt}" for result in results if split in result for doubt in _doubts(result[split], names)
  ]


class Stuck:
  """Doubts about one validation after another. The first one is of a model that has learned nothing yet: a doubt counts
  where the next has the same cause, and is told once."""

  def __init__(self, names: Sequence[str]):
    self._names, self._before, self._told = names, set[str](), set[str]()

  def heard(self, summary: Mapping[str, Any]) -> list[str]:
    """What to say after a validation, given what `evaluate.summarise` gives."""
    found = {doubt.split(" though ")[0]: doubt for doubt in _doubts(summary, self._names)}  # whatever the counts
    again = (found.keys() & self._before) - self._told
    self._before, self._told = set(found), self._told | again
    return [found[cause] for cause in found if cause in again]


def _doubts(summary: Mapping[str, Any], names: Sequence[str]) -> list[str]:
  rows = summary["rows"]
  if summary["unparsed"] == rows:
    return [f"no answer could be read out of the reasoning of any of {rows} rows: give its pattern with --answer"]
  if summary["empty"] == rows:
    return [
      f"all {rows} answers are empty: likely the learning rate is too high, or targets in training began with the end "
      "mark; look at one row with fiat validate --show 1"
    ]
  if summary["unfinished"] == rows:
    return [f"none of {rows} answers came to its end: raise --target_length, or train longer"]
  zero = [name for name in names if summary["overall"].get(name) == 0]
  if not zero:
    return []
  answered = rows - summary["empty"] - summary["unparsed"]
  return [
    f"{' and '.join(zero)} {'is' if len(zero) == 1 else 'are'} 0 though {answered} of {rows} rows have an answer: "
    "compare `prediction` with `target` in the predictions file; likely the answers are longer than the targets or "
    "written otherwise (of --metrics, f1_squad counts parts, accuracy wants the same text), or --instruction does not "
    "say what form the answer has"
  ]
