"""The engines of one server as the socket sees them: how much is under way, and whether one has failed."""

from __future__ import annotations

from collections.abc import Sequence

from fiat_jax.serving.refusal import Refusal
from fiat_jax.serving.worker import Worker


class Workers:
  """None, one or several; where one has failed, the server ends."""

  def __init__(self, workers: Sequence[Worker]):
    self._workers = workers

  def __len__(self) -> int:
    return sum(map(len, self._workers))

  @property
  def failure(self) -> BaseException | None:
    return next((worker.failure for worker in self._workers if worker.failure), None)

  def refuse_all(self, refusal: Refusal) -> None:
    for worker in self._workers:
      worker.refuse_all(refusal)

  def stop(self) -> None:
    for worker in self._workers:
      worker.stop()
