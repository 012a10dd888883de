"""Which recipes a comparison runs: those named, and of those that it would run by itself the ones that can be."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import bill
from fiat_jax.verbs.lacking import enabling, head, lacking
from fiat_jax.workbench import Workbench

SPLITS = ("train", "validation", "test")
SETS: Mapping[str, Sequence[str]] = {  # what --recipes names at once; a set runs what of it can be run
  "ladder": ("fiat", "fine_tuning", "lora", "full_fine_tuning", "base_full_fine_tuning"),
  "ablations": ("fiat", "fine_tuning", "fiat_without_instruction", "fiat_full", "fiat_base", "fiat_all_linear"),
  "adapters": ("fiat", "fiat_rslora", "fiat_dora", "fiat_ia3", "fiat_prompt", "fiat_full"),
  "distillation": ("fine_tuning", "distilled", "distilled_published", "distilled_then_fiat"),
  "instructions": ("fiat", "fiat_without_instruction", "fiat_base", "fiat_base_without_instruction"),
  "in_context": ("icl", "icl_few_shot", "icl_cot", "icl_nearest", "icl_self_consistency"),
  "untuned_in_context": (
    "untuned_without_reasoning",
    "untuned_few_shot",
    "untuned_cot",
    "untuned_nearest",
    "untuned_self_consistency",
  ),
}
# Without --recipes: the paper's ablations, distilled reasoning, the big model's own answer and copying it, the tuned
# model before any tuning, and, of a big model that can be asked, in-context learning.
DEFAULT = (
  *SETS["ladder"],
  *("distilled", "copying", "beta", "untuned", "untuned_without_reasoning"),
  *("icl", "icl_few_shot", "icl_cot"),
)
ALONE = ("beta", "copying", "untuned", "lora_all_linear")
ALL = tuple(dict.fromkeys([*ALONE, *(name for names in SETS.values() for name in names)]))


@dataclasses.dataclass(frozen=True)
class Choice:
  """The recipes to run, by name, and of the others of a set what each `needs` and the `command` that runs it."""

  recipes: Mapping[str, Recipe]
  not_run: Mapping[str, Mapping[str, str]]


def choose(bench: Workbench) -> Choice:
  """Says of each recipe that is not run what it needs.

  Raises:
    UserError: what recipes need that were named, all at once; or nothing can be run, or there are no rows for it.
  """
  asked = bench.settings.recipes
  named = [name for name in asked if name not in SETS and name != "all"]
  names = [name for word in asked or ["default"] for name in expanded(word)]
  recipes = _known(bench, names)
  if any(recipe.needs_reasoning or recipe.distils for recipe in recipes.values()):
    bill.tell(bench)
  lacks = {name: found for name, recipe in recipes.items() if (found := lacking(bench, recipe))}
  told = {name: ", and ".join(found) for name, found in lacks.items()}
  commands = {told[name]: enabling(bench.configuration, found) for name, found in lacks.items()}
  left = {name: recipe for name, recipe in recipes.items() if name not in lacks}
  refused = [f"the recipe {recipes[name].title!r} needs {told[name]}" for name in named if name in told]
  without = _missing(bench, [recipe for name, recipe in recipes.items() if name in left or name in named])
  if refused:
    raise UserError("; ".join([*refused, *without]))
  for lack in dict.fromkeys(told.values()):
    titles = [recipes[name].title for name in told if told[name] == lack]
    say(f"{'; '.join(titles)}: not run: {'needs' if len(titles) == 1 else 'need'} {lack}")
    say(f"  to run {'it' if len(titles) == 1 else 'them'}: {commands[lack]}")
  if not left:
    raise UserError(f"none of the recipes can be run: {'; '.join(f'{name} needs {told[name]}' for name in told)}")
  if without:
    raise UserError("; ".join(without))
  short = {name: ", ".join(map(head, found)) for name, found in lacks.items()}
  return Choice(left, {name: {"needs": short[name], "command": commands[told[name]]} for name in lacks})


def _known(bench: Workbench, names: Sequence[str]) -> dict[str, Recipe]:
  """Raises UserError with all names that are of no recipe."""
  found, unknown = dict[str, Recipe](), list[str]()
  for name in names:
    try:
      found[name] = bench.configuration.recipe(name)
    except UserError as e:
      unknown.append(str(e))
  if unknown:
    raise UserError("; ".join(dict.fromkeys(unknown)))
  return found


def expanded(word: str) -> Sequence[str]:
  """The recipes that a word of RECIPES names."""
  return ALL if word == "all" else DEFAULT if word == "default" else SETS.get(word, [word])


def _missing(bench: Workbench, recipes: Collection[Recipe]) -> list[str]:
  """The splits without rows that these recipes cannot do without, with what to do."""
  needed = SPLITS if any(recipe.trains for recipe in recipes) else SPLITS[-1:]
  return [
    f"no --{split} rows: give --{split} FILE, or --data FILE to be split" for split in needed if split not in bench.rows
  ]
