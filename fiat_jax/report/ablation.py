"""Recipes that differ in one switch, and the paper's chains of them: what each part of FIAT brings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax.report.results import SWITCHES, Comparison, Result

PARTS: Mapping[tuple[str, Any, Any], str] = {  # the value with, the value without, what it is called
  ("instruction", True, False): "instruction",
  ("reasoning", True, False): "reasoning",
  ("adapter", "lora", "full"): "LoRA instead of full tuning",
  ("adapter", "lora", "none"): "tuning (LoRA)",
  ("adapter", "full", "none"): "tuning (full)",
  ("instruction_tuned", True, False): "instruction-tuned model",
}
FIAT = {"instruction": True, "reasoning": True, "adapter": "lora", "instruction_tuned": True}
REMOVALS = (  # Table 3, from the top
  ("reasoning", False, "− reasoning"),
  ("instruction", False, "− instruction"),
  ("adapter", "full", "− LoRA"),
  ("instruction_tuned", False, "− instruction-tuned model"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """Two recipes of which the first has one part more."""

  called: str
  more: Result
  less: Result
  switch: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """A row of Table 2: recipes of one paradigm, and the one of them that validation prefers."""

  called: str
  best: Result


def parts(comparison: Comparison) -> list[Part]:
  """Every pair of recipes that differ in one switch alone, in the order of `PARTS`."""
  models = [result for result in comparison.results if result.switches and not result.of_beta]
  found = []
  for (switch, more, less), called in PARTS.items():
    for one, other in itertools.permutations(models, 2):
      same = all(one.switches[name] == other.switches[name] for name in SWITCHES if name != switch)
      if same and (one.switches[switch], other.switches[switch]) == (more, less):
        found.append(Part(called=called, more=one, less=other, switch=switch))
  return found


def ladder(comparison: Comparison) -> list[tuple[str, Result]]:
  """The rungs of Table 3 that were run, each with what it lacks beside those above."""
  wanted, rungs = dict(FIAT), [("FIAT", dict(FIAT))]
  for switch, value, called in REMOVALS:
    wanted[switch] = value
    rungs.append((called, dict(wanted)))
  found = [(called, _with(comparison, switches)) for called, switches in rungs]
  return [(called, result) for called, result in found if result]


def kinds(comparison: Comparison) -> list[Kind]:
  """Table 2: in-context learning, fine-tuning, FIAT, as far as there are such; the best of each on validation."""
  groups: Mapping[str, list[Result]] = {"in-context learning": [], "fine-tuning": [], "FIAT": []}
  for result in comparison.results:
    if result.switches:
      called = "in-context learning" if not result.trains else "FIAT" if result.reads_reasoning else "fine-tuning"
      groups[called].append(result)
  return [Kind(called=called, best=_best(comparison, results)) for called, results in groups.items() if results]


def best_baseline(comparison: Comparison, found: Sequence[Kind]) -> Result | None:
  """The best of the kinds without FIAT, on validation; None where FIAT or a baseline is missing."""
  baselines = [kind.best for kind in found if kind.called != "FIAT"]
  return _best(comparison, baselines) if baselines and len(baselines) < len(found) else None


def _best(comparison: Comparison, results: Sequence[Result]) -> Result:
  """By validation; without it there is no choosing but by order."""
  metric = comparison.metric
  return max(results, key=lambda r: r.record["validation"]["overall"][metric] if "validation" in r.record else 0.0)


def _with(comparison: Comparison, switches: Mapping[str, Any]) -> Result | None:
  return next(
    (r for r in comparison.results if not r.of_beta and {name: r.switches.get(name) for name in SWITCHES} == switches),
    None,
  )
