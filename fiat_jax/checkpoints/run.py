"""Checkpoints of a run (Orbax): `latest/` to go on from, `best/` by the validation metric.

A latest checkpoint holds what changes while training and every record of `metrics.jsonl` so far, so that a run that
goes on writes exactly what the run that never stopped would have written. The data position is the step itself: global
batch i is a pure function of (seed, i).
"""

from __future__ import annotations

import logging
import pathlib
import sys
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fiat_jax.errors import UserError

# What goes wrong in its threads is raised to us too and told in one line: its traceback before that says no more.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


class RunCheckpoints:
  """The folder `checkpoints/` of one run. Saving is asynchronous; `close` waits for it."""

  def __init__(self, folder: pathlib.Path):
    folder = folder.absolute()
    self._latest = _manager(folder / "latest", keep=2)
    self._best = _manager(folder / "best", keep=1)

  def save(self, step: int, state: Any, records: list[dict[str, Any]]) -> None:
    """Keeps everything needed to go on from `step`."""
    if self._latest.latest_step() == step:
      self._latest.wait_until_finished()
      self._latest.delete(step)
    kept = {"records": list(records)}  # a copy: it is written while the caller goes on appending
    items = ocp.args.Composite(state=ocp.args.StandardSave(state), records=ocp.args.JsonSave(kept))
    self._latest.save(step, args=items)

  def save_best(self, step: int, trained: Any) -> None:
    """Keeps the trained tree as the best so far; the one before goes once this one is whole."""
    if step in self._best.all_steps():  # a run that was killed after this and does it again
      return
    self._best.save(step, args=ocp.args.Composite(trained=ocp.args.StandardSave(trained)))

  def restore(self, like: Any) -> tuple[Any, list[dict[str, Any]]] | None:
    """State and records of the newest whole checkpoint, or None where there is none.

    Args:
      like: a state of the same tree, shapes and types.
    """
    for step in sorted(self._latest.all_steps(), reverse=True):
      items = ocp.args.Composite(state=ocp.args.StandardRestore(_abstract(like)), records=ocp.args.JsonRestore())
      try:
        restored = self._latest.restore(step, args=items)
      except Exception as e:  # Orbax has no common error; a damaged one is passed over for the one before
        print(f"checkpoint {step} cannot be read ({type(e).__name__}); trying the one before", file=sys.stderr)
        continue
      return restored["state"], restored["records"]["records"]
    return None

  def restore_best(self, like: Any, step: int) -> Any:
    """The best checkpoint's trained tree.

    Raises:
      UserError: it is not there or cannot be read.
    """
    self._best.wait_until_finished()
    try:
      items = ocp.args.Composite(trained=ocp.args.StandardRestore(_abstract(like)))
      return self._best.restore(step, args=items)["trained"]
    except (FileNotFoundError, ValueError, KeyError) as e:
      raise UserError(
        f"the best checkpoint, of step {step}, cannot be read ({e}): train again in a new folder"
      ) from None

  def wait(self) -> None:
    self._latest.wait_until_finished()
    self._best.wait_until_finished()

  def close(self) -> None:
    self.wait()
    self._latest.close()
    self._best.close()


def _manager(folder: pathlib.Path, keep: int) -> ocp.CheckpointManager:
  options = ocp.CheckpointManagerOptions(max_to_keep=keep, create=True, cleanup_tmp_directories=True)
  return ocp.CheckpointManager(folder, options=options)


def _abstract(tree: Any) -> Any:
  def describe(leaf: Any) -> Any:
    if isinstance(leaf, jax.Array):
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype)

  return jax.tree.map(describe, tree)
