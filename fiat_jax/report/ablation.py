"""Recipes that differ in one switch, and the paper's chains of them: what each part of FIAT brings."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax.recipe import OF_TRAINING, OWN
from fiat_jax.report.results import SWITCHES, Comparison, Result

PARTS: Mapping[tuple[str, Any, Any], str] = {  # the value with, the value without, what it is called
  ("instruction", True, False): "instruction",
  ("reasoning", True, False): "reasoning",
  ("adapter", "lora", "full"): "LoRA instead of full tuning",
  ("adapter", "lora", "none"): "tuning (LoRA)",
  ("adapter", "rslora", "lora"): "rsLoRA instead of LoRA",
  ("adapter", "dora", "lora"): "DoRA instead of LoRA",
  ("adapter", "ia3", "lora"): "IA3 instead of LoRA",
  ("adapter", "prompt", "lora"): "a soft prompt instead of LoRA",
  ("adapter", "full", "none"): "tuning (full)",
  ("instruction_tuned", True, False): "instruction-tuned model",
  ("adapted", "linear", "attention"): "LoRA on all linear layers",
  ("reasoning_form", "whole", "answer"): "the reasoning beyond its answer",
  ("reasoning_form", "whole", "shuffled"): "the row's own reasoning",
  ("reasoning_form", "whole", "truncated"): "the reasoning's second half",
  ("reasoning_form", "whole", "unanswered"): "the answer in the reasoning",
  ("reasoning_form", "whole", "wrong"): "answers that are right",
  ("distils", True, False): "learning to write the reasoning",
  ("begins_with", "distilled", ""): "starting from distilled CoT",
  ("exemplars", "shown", "none"): "exemplars",
  ("exemplars", "nearest", "shown"): "the nearest exemplars instead",
  ("thinks", True, False): "reasoning in context",
  ("votes", True, False): "self-consistency",
}
FIAT = {**SWITCHES, "instruction": True, "reasoning": True, "adapter": "lora", "instruction_tuned": True}
REMOVALS = (  # Table 3, from the top: the switch, what it becomes, what that is called, the recipe that comes out
  ("reasoning", False, "− reasoning", "fine_tuning"),
  ("instruction", False, "− instruction", "lora"),
  ("adapter", "full", "− LoRA", "full_fine_tuning"),
  ("instruction_tuned", False, "− instruction-tuned model", "base_full_fine_tuning"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """Two recipes of which the first has one part more; `trained`: settings of training in which they differ too."""

  called: str
  more: Result
  less: Result
  switch: str
  trained: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Uses:
  """What was made of the big model's reasoning, each one switch away from a recipe that does without.

  It was learned to be `written` (distilled), `read`, or `both`, one after the other; None: not run.
  """

  without: Result
  written: Result
  read: Result | None
  both: Result | None

  @property
  def ways(self) -> list[tuple[str, Result]]:
    """What each is called, with its result."""
    named = [("no reasoning", self.without), ("learned to be written (distilled)", self.written)]
    named += [("read", self.read)] if self.read else []
    return named + ([("written first, then read", self.both)] if self.both else [])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rung:
  """A row of Table 3: what is missing beside those above, and its result; `missing` says why there is none.

  Of a rung that nobody asked for, what is missing is named with the next one's.
  """

  called: str
  title: str
  result: Result | None = None
  missing: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Kind:
  """A row of Table 2: recipes of one paradigm, and the one of them that validation prefers."""

  called: str
  best: Result


def parts(comparison: Comparison) -> list[Part]:
  """Every pair of recipes that differ in one switch alone, in the order of `PARTS`.

  Settings that are a recipe's own have to be the other's too, but for those of training: what is tuned wants its own.
  """
  models = [result for result in comparison.results if result.switches and not result.of_beta]
  found = []
  for (switch, more, less), called in PARTS.items():
    for one, other in itertools.permutations(models, 2):
      same = all(one.switches[name] == other.switches[name] for name in SWITCHES if name != switch)
      if same and _built_alike(one, other) and (one.switches[switch], other.switches[switch]) == (more, less):
        trained = [name for name in OF_TRAINING if _of_training(one, name) != _of_training(other, name)]
        found.append(Part(called=_called(called, trained), more=one, less=other, switch=switch, trained=trained))
  return found


def _of_training(result: Result, name: str) -> Any:
  """The setting where it is the recipe's own; the learning rate that it was given where none was searched."""
  if name == "LEARNING_RATE" and "tried" not in result.record and "learning_rate" in result.record:
    return result.record["learning_rate"]
  return result.overrides.get(name)


def _built_alike(one: Result, other: Result) -> bool:
  """Whether they have the same settings of their own, those of training aside."""
  return all(one.overrides.get(name) == other.overrides.get(name) for name in OWN if name not in OF_TRAINING)


def _called(called: str, trained: Sequence[str]) -> str:
  others = [name.lower().replace("_", " ") for name in trained]
  return f"{called} (and another {', '.join(others)})" if trained else called


def uses(comparison: Comparison) -> list[Uses]:
  """Figure 4's: recipes without the big model's reasoning beside which it was learned to be written."""
  switched: dict[tuple[str, str], Result] = {}
  for part in (part for part in parts(comparison) if not part.trained):
    switched.setdefault((part.switch, part.less.name), part.more)
  found = []
  for (switch, name), written in switched.items():
    if switch == "distils":
      read = switched.get(("reasoning", name))
      both = switched.get(("begins_with", read.name)) if read else None
      found.append(Uses(without=comparison.result(name), written=written, read=read, both=both))
  return found


def instructed(comparison: Comparison) -> list[tuple[Part, Part]]:
  """Figure 6's: what the instruction brings the instruction-tuned model, and the same for the other."""
  pairs = [part for part in parts(comparison) if part.switch == "instruction"]
  same = lambda result: {name: value for name, value in result.switches.items() if name != "instruction_tuned"}  # noqa: E731
  return [
    (tuned, base)
    for tuned, base in itertools.permutations(pairs, 2)
    if tuned.more.switches["instruction_tuned"] > base.more.switches["instruction_tuned"]
    and same(tuned.more) == same(base.more)
    and _built_alike(tuned.more, base.more)
  ]


def ladder(comparison: Comparison) -> list[Rung]:
  """The rungs of Table 3 that were run, or would have been had nothing been missing."""
  wanted = dict(FIAT)
  above = _with(comparison, wanted, None)
  rungs = [(above, "FIAT", "fiat")]
  for switch, value, called, recipe in REMOVALS:
    wanted[switch] = value
    rungs.append((_with(comparison, wanted, above), called, recipe))
    above = above or rungs[-1][0]
  found, skipped = [], list[str]()
  for result, called, recipe in rungs:
    lacking = comparison.not_run.get(recipe)
    together = ", ".join([*skipped, called])
    if result:
      found.append(Rung(called=together, title=result.title, result=result))
    elif lacking:
      found.append(Rung(called=together, title=lacking["title"], missing=f"not run: needs {lacking['needs']}"))
    skipped = [] if result or lacking or not found else [*skipped, called]
  return found


def kinds(comparison: Comparison) -> list[Kind]:
  """Table 2: in-context learning, fine-tuning, FIAT, as far as there are such; the best of each on validation."""
  groups: Mapping[str, list[Result]] = {"in-context learning": [], "fine-tuning": [], "FIAT": []}
  for result in comparison.results:
    of_a_part = result.reads_reasoning and result.switches.get("reasoning_form", "whole") != "whole"
    if result.switches and not of_a_part:  # copying and the like are none of the paper's
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


def _with(comparison: Comparison, switches: Mapping[str, Any], above: Result | None) -> Result | None:
  """The recipe with these switches, beside the rung `above` where there is one."""
  found = (r for r in comparison.results if not r.of_beta and r.switches == switches)
  return next((r for r in found if not above or _built_alike(above, r)), None)
