"""The best checkpoint of a run, read back for who answers with it, goes on from it or exports it."""

from __future__ import annotations

import pathlib
from typing import Any

from fiat_jax import processes
from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.errors import UserError
from fiat_jax.recipe import Recipe
from fiat_jax.run_folder import check_base
from fiat_jax.training.journal import best_step
from fiat_jax.workbench import Workbench


def restore_best(bench: Workbench, recipe: Recipe, folder: pathlib.Path) -> Any | None:
  """The best trained tree of the run in `folder`; None where the recipe trains nothing.

  Raises:
    UserError: the recipe trains and the folder holds no checkpoint, or one of another model than the bench's.
  """
  if not recipe.trains:
    return None
  check_base(folder, bench.models.fingerprints([recipe]))
  if not processes.by_first((folder / "checkpoints" / "best").is_dir):
    raise UserError(f"holds no checkpoint of {recipe.title}: train first, or evaluate --recipes untuned", folder)
  like = bench.models.shapes(recipe) if recipe.adapter == "full" else bench.models.new_adapter(recipe, seed=0)
  processes.check_shared(folder)
  checkpoints = RunCheckpoints(folder / "checkpoints")
  try:
    return checkpoints.restore_best(like, best_step(folder, bench.settings.scores[0]))
  finally:
    checkpoints.close()
