"""A recipe's runs put aside, because its search has found better settings; nothing is deleted."""

from __future__ import annotations

import itertools
import pathlib

from fiat_jax.configuration import Configuration
from fiat_jax.progress import say
from fiat_jax.verbs.learning_curve import SIZES


def set_aside(configuration: Configuration, folder: pathlib.Path, place: pathlib.Path) -> None:
  """Moves all runs of the recipe whose folder it is, and of those that begin with it, which it has made stale.

  The recipe's own folder goes last: whenever this is stopped, it is done again.

  Args:
    place: where `NAME_0`, `NAME_1`, … are made.
  """
  parent, name = folder.parent, folder.name
  for other, recipe in configuration.recipes.items():
    if recipe.begins_with == name:
      _move([parent / place.parent.name / other, parent / SIZES / other, parent / other], place, other)
  _move([parent / SIZES / name, folder], place, name)


def _move(parts: list[pathlib.Path], place: pathlib.Path, name: str) -> None:
  there = [part for part in parts if part.exists()]
  if not there:
    return
  to = next(to for n in itertools.count() if not (to := place / f"{name}_{n}").exists())
  to.mkdir(parents=True)
  for part in there:
    part.rename(to / ("run" if part == parts[-1] else part.parent.name))
  say(f"{name}: other settings are better on validation than those of its runs, which are kept in {to}")
