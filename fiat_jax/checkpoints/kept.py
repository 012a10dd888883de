"""One folder of checkpoints (Orbax), a sub-folder a step: written in the background, each checked before it is read."""

from __future__ import annotations

import logging
import os
import pathlib
import shutil
import sys
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from fiat_jax import processes
from fiat_jax.checkpoints import manifest

# What goes wrong in its threads is raised to us too and told in one line: its traceback before that says no more.
logging.getLogger("absl").addFilter(lambda record: "orbax" not in record.pathname)


def _told(said: sys.UnraisableHookArgs) -> None:
  """Leaves out what TensorStore says of arrays that it ends after Orbax gave up over the first that failed."""
  if said.exc_type is not RuntimeError or str(said.exc_value) != "Event loop is closed":
    _told_before(said)


_told_before, sys.unraisablehook = sys.unraisablehook, _told

BEFORE = "-before"  # after the name of a checkpoint that is replaced, until its successor is whole


class Kept:
  """The newest `keep` checkpoints. Of several processes each writes and reads its part; all call the same together."""

  def __init__(self, folder: pathlib.Path, keep: int):
    self._folder, self._saving = folder, -1
    processes.by_first(self._put_back)
    options = ocp.CheckpointManagerOptions(
      max_to_keep=keep,
      create=True,
      cleanup_tmp_directories=True,
      async_options=ocp.AsyncOptions(post_finalization_callback=self._list),
      multiprocessing_options=ocp.options.MultiprocessingOptions(
        barrier_sync_key_prefix=folder.name
      ),  # a barrier of its own
    )
    self._manager = ocp.CheckpointManager(folder, options=options)

  def steps(self) -> list[int]:
    """Of all checkpoints, the newest first."""
    return sorted(self._manager.all_steps(), reverse=True)

  def save(self, step: int, **items: ocp.args.CheckpointArgs) -> None:
    """Begins to write a checkpoint, in the place of later ones; one of its step stays until it is whole."""
    self.wait()
    for other in self.steps():
      if other > step:
        self._manager.delete(other)
    if step in self.steps():
      processes.by_first(lambda: self._set_aside(step))
      self._manager.reload()
    self._saving = step
    self._manager.save(step, args=ocp.args.Composite(**items))

  def _set_aside(self, step: int) -> None:
    os.replace(self._folder / str(step), self._folder / f"{step}{BEFORE}")

  def _put_back(self) -> None:
    """Of what was set aside, what has no successor goes back to its place, and the rest goes."""
    for before in self._folder.glob(f"*{BEFORE}"):
      if (place := before.with_name(before.name.removesuffix(BEFORE))).exists():
        shutil.rmtree(before)
      else:
        os.replace(before, place)

  def _list(self) -> None:
    """Called by Orbax in the first process, before it gives the finished folder its name."""
    for folder in self._folder.glob(f"{self._saving}.*"):
      manifest.write(folder)

  def fault(self, step: int) -> str:
    """What is wrong with a checkpoint's files; empty where nothing is."""
    return processes.by_first(lambda: manifest.fault(self._folder / str(step)))

  def restore(self, step: int, **items: ocp.args.CheckpointArgs) -> dict[str, Any]:
    restored = self._manager.restore(step, args=ocp.args.Composite(**items))
    return {name: restored[name] for name in items}

  def wait(self) -> None:
    """Until what was begun is written."""
    self._manager.wait_until_finished()
    if processes.first():
      self._put_back()
      for step in self.steps():
        manifest.seal(self._folder / str(step))

  def close(self) -> None:
    self.wait()
    self._manager.close()


def abstract(tree: Any) -> Any:
  """Shapes and types of a tree's arrays, and where they lie. A leaf described without a place gets the first device.

  Told of no place, Orbax asks for the devices that wrote it.
  """
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])

  def describe(leaf: Any) -> Any:
    if isinstance(leaf, jax.ShapeDtypeStruct):
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding or here)
    if isinstance(leaf, jax.Array):
      return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)
    return jax.ShapeDtypeStruct(np.shape(leaf), np.asarray(leaf).dtype)

  return jax.tree.map(describe, tree)
