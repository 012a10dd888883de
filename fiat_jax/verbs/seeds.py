"""Where a recipe's runs lie: in its folder, or of several seeds in one each below it; seeds may be added later."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Sequence

from fiat_jax import processes, run_folder


def homes(folder: pathlib.Path, seeds: Sequence[int]) -> list[pathlib.Path]:
  """One a seed."""
  return [folder / f"seed_{seed}" for seed in seeds] if len(seeds) > 1 else [folder]


def found(folder: pathlib.Path, seeds: Sequence[int]) -> list[pathlib.Path]:
  """One a seed as they lie now: that of the one which was run alone is the folder itself."""
  alone = _seed_of(folder) if len(seeds) > 1 else None
  return [folder if seed == alone else home for seed, home in zip(seeds, homes(folder, seeds), strict=True)]


def make_room(folder: pathlib.Path, seeds: Sequence[int]) -> None:
  """Where several are to be run, and one was run alone, that goes down beside the others."""
  if len(seeds) > 1:
    processes.by_first(lambda: _go_down(folder))


def _go_down(folder: pathlib.Path) -> None:
  """Whenever it is stopped, the next call ends it."""
  aside = folder.with_name(f"{folder.name}.moved")
  if not aside.exists() and _seed_of(folder) is not None:
    folder.rename(aside)
  if aside.exists():
    place = folder / f"seed_{_seed_of(aside)}"
    run_folder.call(aside, place)
    folder.mkdir(exist_ok=True)
    aside.rename(place)


def _seed_of(folder: pathlib.Path) -> int | None:
  """That of the run which the folder itself is; None where it is none."""
  recorded = run_folder.recorded(folder)
  return ast.literal_eval(recorded["SEEDS"])[0] if "SEEDS" in recorded else None
