"""After the batches of `warm` have run, no request within the lengths compiles anything."""

import random

import pytest
import t5
import tiny

from fiat_jax.decoding import slots as device
from fiat_jax.decoding import warm
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.models import t5_cached

PROGRAMS = (device.prefill, device.copy, device.decode)


def run(session: Session, requests: list[Request]) -> None:
  for request in requests:
    session.add(request)
  while len(session):
    session.advance()


@pytest.mark.parametrize("slots", [pytest.param(1, marks=pytest.mark.slow), 5])
@pytest.mark.parametrize("family", ["decoder-only", pytest.param("encoder–decoder", marks=pytest.mark.slow)])
def test_nothing_is_compiled_after_every_program_has_run(tiny_model, tmp_path, family, slots):
  module, layers = tiny_model.module, tiny_model.layers
  if family != "decoder-only":
    module, params = t5.load(t5.write_model(tmp_path))
    layers = t5_cached.unstack({"params": params})
  engine = Engine(module, layers, stop_ids=(), slots=slots, decode=lambda ids: "")
  lengths = Lengths(80, 100, 20)
  session = Session(engine, lengths)
  for batch in warm.batches(engine, lengths):
    run(session, batch)
  compiled = [program._cache_size() for program in PROGRAMS]
  rng = random.Random(0)
  for number in range(40):
    prompt = tiny.random_ids(rng.randrange(1, lengths.prompt + 1), seed=number)
    sampling = Sampling(temperature=rng.choice([0.0, 1.0]), seed=number)
    request = Request(tokens=prompt, max_new_tokens=rng.randrange(1, 20), sampling=sampling, alternatives=number % 3)
    run(
      session,
      [request] * rng.choice([1, 1, 2, 3, 8]) + [Request(tokens=prompt[:n], max_new_tokens=2) for n in (1, 5, 70)],
    )
  assert [program._cache_size() for program in PROGRAMS] == compiled
