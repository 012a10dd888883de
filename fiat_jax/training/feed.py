"""Batches on the devices: the next one is packed and put there while they work on this one."""

from __future__ import annotations

from typing import Any

import jax

from fiat_jax import sharding
from fiat_jax.data.batches import Batches
from fiat_jax.data.packing import Shape


class Feed:
  """Of all batches the one that is due, and at most one that will be."""

  def __init__(self, batches: Batches):
    self._batches = batches
    self._next: tuple[int, Shape, Any] | None = None

  def take(self, step: int) -> Any:
    """The batch of a step; made now where it was not prepared, or in microbatches of another shape."""
    prepared, self._next = self._next, None
    if prepared and prepared[:2] == (step, self._batches.shape):
      return prepared[2]
    return self._made(step)

  def prepare(self, step: int) -> None:
    """Makes the batch of a step before it is due."""
    try:
      self._next = step, self._batches.shape, self._made(step)
    except Exception:  # whatever it is, it comes again when the batch is due, and this step is not lost with it
      self._next = None

  def _made(self, step: int) -> Any:
    batch = self._batches[step]
    return jax.device_put(batch) if sharding.mesh() is None else sharding.rows(batch)
