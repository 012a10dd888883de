"""What the engine promises: one answer to one request, whatever else is asked, and where it may differ at all."""

from __future__ import annotations

import dataclasses
import random
from typing import Any

import pytest
import t5 as small
import tiny

from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.request import Completion, Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.models import decoder, t5_cached
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.t5 import T5

PROMPTS, ORDERS = 64, 10
NEAR = {"float32": 1e-3, "bfloat16": 0.5}  # between the two best logits


def decoder_only(dtype: str = "float32") -> tuple[Decoder, Any]:
  config = dataclasses.replace(tiny.CONFIG, dtype=dtype)
  return Decoder(config), decoder.unstack({"params": tiny.random_params()}, config.layers)


@pytest.fixture(scope="module")
def encoder_decoder(tmp_path_factory) -> tuple[T5, Any]:
  module, params = small.load(small.write_checkpoint(tmp_path_factory.mktemp("t5"), "t5_1_1"))
  return module, t5_cached.unstack({"params": params})


def requests_of(seed: int = 0) -> list[Request]:
  """Prompts of mixed lengths, some of them the same; every other one sampled."""
  draw = random.Random(seed)
  prompts = [tiny.random_ids(draw.randint(1, 90), seed=n % 56) for n in range(PROMPTS)]
  return [
    Request(
      tokens=prompt,
      max_new_tokens=draw.randint(1, 20),
      sampling=Sampling(temperature=n % 2 * 0.9, top_p=0.9, seed=n),
    )
    for n, prompt in enumerate(prompts)
  ]


def tokens_of(model, requests, *, slots=5, shared=0) -> list[list[int]]:
  completions = Engine(*model, stop_ids=[7], slots=slots).generate(requests, shared=shared)
  return [completion.tokens for completion in completions]


def check_orders(model):
  requests = requests_of()
  expected = tokens_of(model, requests)
  assert len({tuple(tokens) for tokens in expected}) > PROMPTS / 2
  for order in range(ORDERS):
    shuffled = random.Random(order).sample(range(PROMPTS), k=PROMPTS)
    assert tokens_of(model, [requests[n] for n in shuffled]) == [expected[n] for n in shuffled]


def test_a_decoder_only_model_gives_the_same_answers_in_any_order():
  check_orders(decoder_only())


@pytest.mark.slow
def test_an_encoder_decoder_gives_the_same_answers_in_any_order(encoder_decoder):
  check_orders(encoder_decoder)


def same_up_to_near_ties(one: Completion, other: Completion, near: float) -> bool:
  """Whether two answers agree up to the first place whose two best logits lie closer than `near`."""
  for place, (a, b) in enumerate(zip(one.tokens, other.tokens, strict=False)):
    (_, best), (_, second) = one.alternatives[place][:2]
    if best - second < near:
      return True
    if a != b:
      return False
  return len(one.tokens) == len(other.tokens)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_slots_and_a_shared_prefix_change_nothing_before_a_near_tie(dtype):
  model = decoder_only(dtype)
  lead = tiny.random_ids(40, seed=9)
  requests = [Request(tokens=lead + r.tokens, max_new_tokens=20, alternatives=2) for r in requests_of(seed=1)[:24]]
  plain, *others = (
    Engine(*model, stop_ids=(), slots=slots).generate(requests, shared=shared)
    for slots, shared in ((5, 0), (2, 0), (16, 0), (5, 40), (5, 17))
  )
  for other in others:
    assert all(same_up_to_near_ties(a, b, NEAR[dtype]) for a, b in zip(plain, other, strict=True))
  if dtype == "float32":
    assert sum(a.tokens == b.tokens for a, b in zip(plain, others[2], strict=True)) >= 23


def test_the_promise_is_one_that_can_be_broken():
  a = Completion(tokens=[1, 2], alternatives=[[(1, -0.1), (3, -3.0)], [(2, -0.1), (3, -3.0)]])
  b = dataclasses.replace(a, tokens=[1, 3])
  assert not same_up_to_near_ties(a, b, 0.5)
  assert same_up_to_near_ties(dataclasses.replace(a, alternatives=[[(1, -0.1), (3, -0.2)]] * 2), b, 0.5)
