"""What the engine promises: one answer to one request, whatever else is asked, and where it may differ at all."""

from __future__ import annotations

import dataclasses
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import t5 as small
import tiny
from company import caches, check_orders

from fiat_jax.decoding import slots as device
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Completion, Request
from fiat_jax.decoding.sampling import GREEDY, Sampling
from fiat_jax.models import decoder, t5_cached
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.t5 import T5

PROMPTS, ORDERS = 64, 10
NEAR = {"float32": 1e-3, "bfloat16": 0.5}  # between the two best logits


def decoder_only(dtype: str = "float32") -> tuple[Decoder, Any]:
  config = dataclasses.replace(tiny.CONFIG, dtype=dtype)
  return Decoder(config), decoder.unstack({"params": tiny.random_params()}, config.layers)


def encoder_decoder(dtype: str = "float32") -> tuple[T5, Any]:
  with tempfile.TemporaryDirectory() as folder:
    module, params = small.load(small.write_checkpoint(Path(folder), "t5_1_1"), dtype)
  return module, t5_cached.unstack({"params": params})


FAMILIES = [decoder_only, pytest.param(encoder_decoder, marks=pytest.mark.slow)]


def sharpened(model, times: float):
  """The model with logits so many times as far apart: random ones lie so close that in bf16 most are near ties."""
  module, weights = model
  outer, sharper = weights["outer"], lambda of: {**of, "final_norm": {"scale": times * of["final_norm"]["scale"]}}
  if "decoder" in outer:
    return module, {**weights, "outer": {**outer, "decoder": sharper(outer["decoder"])}}
  return module, {**weights, "outer": sharper(outer)}


def requests_of(seed: int = 0) -> list[Request]:
  """Prompts of mixed lengths, some of them the same; every other one sampled."""
  draw = random.Random(seed)
  prompts = [tiny.random_ids(draw.randint(1, 90), seed=n) for n in range(PROMPTS - 8)]
  prompts += prompts[:8]
  return [
    Request(
      tokens=prompt,
      max_new_tokens=draw.randint(1, 20),
      sampling=Sampling(temperature=n % 2 * 0.9, top_p=0.9, seed=n),
    )
    for n, prompt in enumerate(prompts)
  ]


def engine_of(model) -> Engine:
  return Engine(*model, stop_ids=[7], slots=5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_request_gets_the_same_answer_in_any_company(family):
  check_orders(engine_of(family()), requests_of(), ORDERS)


def test_behind_a_shared_prefix_too():
  lead = tiny.random_ids(40, seed=9)
  requests = [dataclasses.replace(request, tokens=[*lead, *request.tokens]) for request in requests_of()]
  check_orders(engine_of(decoder_only()), requests, ORDERS, shared=len(lead))


@pytest.mark.slow
def test_samples_of_a_prompt_share_its_encoding(monkeypatch):
  computed, prefill = [], device.prefill
  monkeypatch.setattr(device, "prefill", lambda *a: computed.append(a[4].slot.tolist()) or prefill(*a))
  prompts, samples = [tiny.random_ids(30 + n, seed=n) for n in range(3)], range(5)
  requests = [
    Request(tokens=prompt, max_new_tokens=3 + 4 * n, sampling=Sampling(temperature=1.0, seed=n))
    for prompt in prompts
    for n in samples
  ]
  engine = engine_of(encoder_decoder())
  together = engine.generate(requests)
  assert len(computed) == len(prompts)
  assert [answer.tokens for answer in together] == [engine.generate([request])[0].tokens for request in requests]
  assert len({tuple(answer.tokens) for answer in together}) > 10


@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_leaves_the_same_bits_in_the_cache_alone_and_among_others(family, dtype):
  engine = engine_of(family(dtype))
  for length in (8, 60, 90, 200):  # of four buckets
    prompts = [tiny.random_ids(length - n, seed=n) for n in range(4)]
    requests = [Request(tokens=p, max_new_tokens=4, sampling=Sampling(seed=n)) for n, p in enumerate(prompts)]
    lengths = Lengths.of(requests)
    for request, together in zip(requests, caches(engine, requests, lengths), strict=True):
      (alone,) = caches(engine, [request], lengths)
      assert any(np.any(leaf) for leaf in alone)
      assert all(np.array_equal(a, b) for a, b in zip(alone, together, strict=True))


def near_tie(answer: Completion, near: float) -> int:
  """The first place whose two best logits lie closer than `near`; how many tokens there are, where none does."""
  gaps = [best - second for (_, best), (_, second) in (likely[:2] for likely in answer.alternatives)]
  return next((n for n, gap in enumerate(gaps) if gap < near), len(gaps))


def same_up_to_near_ties(one: Completion, other: Completion, near: float) -> bool:
  """Whether two answers agree up to the first place whose two best logits lie closer than `near`."""
  end = near_tie(one, near)
  if end < len(one.tokens):
    return one.tokens[:end] == other.tokens[:end]
  return one.tokens == other.tokens


@pytest.mark.slow
@pytest.mark.parametrize("dtype", NEAR)
@pytest.mark.parametrize("family", [decoder_only, encoder_decoder])
def test_slots_and_a_shared_prefix_change_nothing_before_a_near_tie(family, dtype):
  """Nor does a cache of more room. Of an encoder–decoder nothing is kept of what prompts share: that must not show."""
  model = sharpened(family(dtype), 16.0)
  lead = tiny.random_ids(40, seed=9)
  requests = [Request(tokens=[*lead, *r.tokens], max_new_tokens=20, alternatives=2) for r in requests_of(seed=1)[:24]]
  plain, *others = (
    Engine(*model, stop_ids=(), slots=slots).generate(requests, shared=shared)
    for slots, shared in ((5, 0), (2, 0), (16, 0), (5, 40), (5, 17))
  )
  session = Session(Engine(*model, stop_ids=(), slots=5), Lengths(400, 800, 400))  # of much more room
  numbers, roomy = [session.add(request) for request in requests], dict[int, Completion]()
  while session:
    roomy |= dict(session.advance())
  for other in (*others, [roomy[number] for number in numbers]):
    assert all(same_up_to_near_ties(a, b, NEAR[dtype]) for a, b in zip(plain, other, strict=True))
  if dtype == "float32":
    assert sum(a.tokens == b.tokens for a, b in zip(plain, others[2], strict=True)) >= 23
  assert sum(near_tie(a, NEAR[dtype]) for a in plain) > 150, "of 480 tokens, what stands before a near tie"


@pytest.mark.slow
@pytest.mark.parametrize("family", [decoder_only, encoder_decoder])
def test_bfloat16_changes_nothing_before_a_near_tie(family):
  requests = [dataclasses.replace(r, sampling=GREEDY, alternatives=2) for r in requests_of(seed=2)[:24]]
  times = 16.0 if family is decoder_only else 2.0  # a T5 of such parameters rounds by more
  models = [sharpened(family(dtype), times) for dtype in NEAR]
  exact, rounded = (Engine(*model, stop_ids=(), slots=5).generate(requests) for model in models)
  assert sum(near_tie(a, NEAR["bfloat16"]) for a in exact) > 20
  assert all(same_up_to_near_ties(a, b, NEAR["bfloat16"]) for a, b in zip(exact, rounded, strict=True))


def test_the_promise_is_one_that_can_be_broken():
  a = Completion(tokens=[1, 2], alternatives=[[(1, -0.1), (3, -3.0)], [(2, -0.1), (3, -3.0)]])
  b = dataclasses.replace(a, tokens=[1, 3])
  assert not same_up_to_near_ties(a, b, 0.5)
  assert same_up_to_near_ties(dataclasses.replace(a, alternatives=[[(1, -0.1), (3, -0.2)]] * 2), b, 0.5)
