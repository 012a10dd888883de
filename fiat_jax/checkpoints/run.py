"""Checkpoints of a run: `latest/` to go on from, `best/` by the validation metric.

A latest checkpoint holds what changes while training and every record of `metrics.jsonl` so far, so that a run that
goes on writes exactly what the run that never stopped would have written. The data position is the step itself: global
batch i is a pure function of (seed, i).
"""

from __future__ import annotations

import pathlib
import sys
from typing import Any

from orbax.checkpoint import args

from fiat_jax import processes
from fiat_jax.checkpoints.kept import Kept, abstract
from fiat_jax.errors import UserError


class RunCheckpoints:
  """The folder `checkpoints/` of one run. Saving is asynchronous; `close` waits for it."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder.absolute()
    self._latest, self._best = Kept(self._folder / "latest", keep=2), Kept(self._folder / "best", keep=1)

  def save(self, step: int, state: Any, records: list[dict[str, Any]]) -> None:
    """Keeps everything needed to go on from `step`; what is kept already is not written again."""
    self._one_at_a_time(self._best)
    kept = {"records": list(records)}  # a copy: it is written while the caller goes on appending
    if processes.of_first(self._holds(step, kept)):
      return
    self._latest.save(step, state=args.StandardSave(state), records=args.JsonSave(kept))

  def _holds(self, step: int, kept: Any) -> bool:
    """Whether the latest checkpoint of a step is whole and has these records, of which its state follows."""
    self._latest.wait()
    if step not in self._latest.steps() or self._latest.fault(step):
      return False
    return self._latest.restore(step, records=args.JsonRestore())["records"] == kept

  def save_best(self, step: int, trained: Any) -> None:
    """Keeps the trained tree as the best so far; the one before goes once this one is whole."""
    if step in self._best.steps() and not self._best.fault(step):  # of a run that was killed after this
      return
    self._one_at_a_time(self._latest)
    self._best.save(step, trained=args.StandardSave(trained))

  def _one_at_a_time(self, other: Kept) -> None:
    """Waits for the other kind: two that several processes write at once meet at each other's barriers in Orbax."""
    if processes.count() > 1:
      other.wait()

  def restore(self, like: Any) -> tuple[Any, list[dict[str, Any]]] | None:
    """State and records of the newest checkpoint whose files are as they were saved, or None where there is none.

    Args:
      like: a state of the same tree, shapes and types, which lies where the restored one is to lie.
    """
    self._latest.wait()
    damaged = []
    for step in self._latest.steps():
      if fault := self._latest.fault(step):
        _warn(f"the checkpoint of step {step} is damaged and left out: {fault}")
        damaged.append(step)
        continue
      restored = self._latest.restore(step, state=args.StandardRestore(abstract(like)), records=args.JsonRestore())
      if damaged:
        _warn(f"going on from the one before, of step {step}")
      return restored["state"], restored["records"]["records"]
    if damaged:
      _warn("no other is left: the run begins anew")
    return None

  def restore_best(self, like: Any, step: int) -> Any:
    """The best checkpoint's trained tree.

    Raises:
      UserError: it is not there, or its files are not as they were saved.
    """
    self._best.wait()
    where = self._folder / "best" / str(step)
    if step not in self._best.steps():
      raise UserError("is missing, the best checkpoint: train again in a new folder", where)
    if fault := self._best.fault(step):
      raise UserError(f"the best checkpoint is damaged ({fault}): train again in a new folder", where)
    return self._best.restore(step, trained=args.StandardRestore(abstract(like)))["trained"]

  def wait(self) -> None:
    self._latest.wait()
    self._best.wait()

  def close(self) -> None:
    self._latest.close()
    self._best.close()


def _warn(text: str) -> None:
  """A line that `--quiet` does not keep back."""
  if processes.first():
    print(text, file=sys.stderr, flush=True)
