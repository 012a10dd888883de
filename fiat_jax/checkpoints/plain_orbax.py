"""A whole model, and an adapter beside it, as Orbax keeps any tree: arrays under names, none of this package's code."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fiat_jax.checkpoints.new_folder import new_folder
from fiat_jax.checkpoints.tokenizer_files import save_tokenizer
from fiat_jax.data.tokenizer import Tokenizer


def write_orbax(
  folder: str | os.PathLike[str],
  params: Mapping[str, Any],
  adapter: Mapping[str, Any] | None,
  tokenizer: Tokenizer,
  beside: Callable[[Path], None] | None = None,
) -> None:
  """Writes `model/` and, of a run that tuned one, `adapter/`, and `restore.py`, which reads them: all or nothing.

  Args:
    params: the tree `params`, layers stacked, an adapter merged where it can be.
    adapter: the collection `lora` (`models/adapters.py`).
    beside: writes what else shall stand in the folder.

  Raises:
    UserError: there is something already, or too little room.
  """
  import orbax.checkpoint as ocp

  trees = {"model": params} | ({"adapter": adapter} if adapter is not None else {})
  wanted = sum(leaf.nbytes for leaf in jax.tree.leaves(trees))
  with new_folder(folder, wanted) as partial, ocp.PyTreeCheckpointer() as checkpointer:
    save_tokenizer(tokenizer, partial)
    for name, tree in trees.items():
      checkpointer.save(partial.absolute() / name, jax.tree.map(np.asarray, tree))
    shutil.copyfile(pathlib.Path(__file__).with_name("restore_orbax.py"), partial / "restore.py")
    if beside:
      beside(partial)
