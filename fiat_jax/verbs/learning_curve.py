"""The learning curve: a recipe on fewer training rows, each number in a run folder of its own."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.verbs.seeds import homes, make_room
from fiat_jax.verbs.tuning import train_recipe
from fiat_jax.workbench import Workbench

SIZES = "sizes"  # their folder, beside those of the recipes


def sizes(bench: Workbench) -> list[int]:
  """The numbers of rows, smaller than all, that are to be tried."""
  return sorted({size for size in bench.settings.try_sizes if size < whole(bench)})


def say_too_large(bench: Workbench) -> None:
  """Tells of numbers that are no fewer rows than all."""
  if "train" in bench.rows and (large := [str(s) for s in bench.settings.try_sizes if s >= whole(bench)]):
    say(f"--try_sizes {','.join(large)}: left out, {whole(bench)} training rows are all")


def whole(bench: Workbench) -> int:
  """All that is learned from."""
  count = len(bench.rows["train"])
  return min(count, bench.settings.train_rows or count)


def home(folder: pathlib.Path, size: int, seeds: Sequence[int]) -> list[pathlib.Path]:
  """The same, one a seed."""
  return homes(place_of(folder, size), seeds)


def place_of(folder: pathlib.Path, size: int) -> pathlib.Path:
  """Where the runs of a recipe on so many rows are; `folder` is where its other runs are."""
  return folder.parent / SIZES / folder.name / str(size)


def runs(bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path, size: int) -> list[dict[str, Any]]:
  """What results say of the runs on so many rows."""
  say(f"{recipe.title}: on {size} training rows")
  under, seeds = bench.under(bench.configuration.replace(train_rows=size)), bench.settings.seeds
  make_room(place_of(folder, size), seeds)
  firsts = home(folder.parent / recipe.begins_with, size, seeds)
  return [
    train_recipe(under, name, recipe, place, seed, first)
    for seed, place, first in zip(seeds, home(folder, size, seeds), firsts, strict=True)
  ]
