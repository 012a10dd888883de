"""The engine's thread from the event loop's side: what fails there is told to all who wait, and to the server."""

import asyncio

import pytest
import t5
import tiny

from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Request
from fiat_jax.models import t5_cached
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


@pytest.mark.parametrize("family", ["decoder-only", "encoder–decoder"])
def test_what_is_too_long_for_the_session_is_refused_and_the_engine_lives(tiny_model, tmp_path, family):
  """A prompt longer than a T5's cache ended the thread; a decoder-only model read half of it."""
  module, layers = tiny_model.module, tiny_model.layers
  if family != "decoder-only":
    module, params = t5.load(t5.write_model(tmp_path))
    layers = t5_cached.unstack({"params": params})
  engine = Engine(module, layers, stop_ids=(), slots=2)

  async def ask() -> None:
    worker = Worker(Session(engine, Lengths(64, 72, 8)), slots=2, places=9, metrics=Metrics())
    with pytest.raises(Refusal, match="prompt of 150 tokens, where 64 fit") as refused:
      worker.submit([Request(tokens=tiny.random_ids(150, seed=0), max_new_tokens=8)], grows=False)
    assert refused.value.status == 400 and refused.value.code == "context_length_exceeded"
    with worker.submit([Request(tokens=tiny.random_ids(64, seed=0), max_new_tokens=8)], grows=False) as job:
      assert [len(news.end.tokens) async for _, news in job.news() if news.end] == [8]
    worker.stop()

  asyncio.run(ask())
