"""The engine's thread from the event loop's side: what fails there is told to all who wait, and to the server."""

import asyncio

import pytest
import tiny

from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Request
from fiat_jax.serving.metrics import Metrics
from fiat_jax.serving.refusal import Refusal
from fiat_jax.serving.worker import Worker


class Failing(Session):
  """A session whose device fails at the third call."""

  calls = 0

  def advance(self):
    self.calls += 1
    if self.calls == 3:
      raise RuntimeError("the device is gone")
    return super().advance()


def test_a_failing_engine_is_told_to_all_who_wait(tiny_model):
  engine = Engine(tiny_model.module, tiny_model.layers, stop_ids=(), slots=2)
  requests = [Request(tokens=tiny.random_ids(5, seed=n), max_new_tokens=60) for n in range(3)]

  async def ask() -> None:
    worker = Worker(Failing(engine, Lengths(10, 70, 60)), slots=2, places=9, metrics=Metrics())
    jobs = [worker.submit([request], grows=True) for request in requests]
    told = []
    for job in jobs:
      with pytest.raises(Refusal, match="the engine has failed") as refused, job:
        async for _, news in job.news():
          told.append(news)
      assert refused.value.status == 500
    assert told and isinstance(worker.failure, RuntimeError) and not len(worker)
    with pytest.raises(Refusal) as refused:
      worker.submit(requests, grows=False)
    assert refused.value.status == 503
    worker.stop()

  asyncio.run(ask())
