"""The engine against PyTorch's continuations and against a plain loop; the same answers in any company."""

import random

import jax
import numpy as np
import pytest
import tiny

from fiat_jax.decoding.engine import Engine, Request, empty_slots
from fiat_jax.decoding.family import family_of
from fiat_jax.decoding.lengths import bucket
from fiat_jax.decoding.sampling import Sampling

PROMPTS = [tiny.random_ids(length, seed=length) for length in (1, 3, 9, 17, 30, 5, 12)]


def engine_of(model, stop_ids=(), slots=3):
  return Engine(model.module, model.layers, stop_ids=stop_ids, slots=slots)


def plain_greedy(model, prompt, count):
  """The continuation by one whole forward pass a token."""
  ids = list(prompt)
  for _ in range(count):
    ids.append(int(np.argmax(tiny.logits_of(model.module, {"params": model.params}, ids)[-1])))
  return ids[len(prompt) :]


def test_continuations_of_smollm2_equal_those_of_pytorch(smollm2, golden):
  recorded = np.load(golden / "smollm2_logits.npz")
  requests = [Request(tokens=recorded[f"{p}.ids"].tolist(), max_new_tokens=48) for p in range(5)]
  completions = engine_of(smollm2, slots=2).generate(requests)
  for p, completion in enumerate(completions):
    assert completion.tokens == recorded[f"{p}.greedy_ids"].tolist()
    assert len(set(completion.tokens)) >= 16


def test_greedy_equals_a_plain_loop_of_argmax(tiny_model):
  completions = engine_of(tiny_model).generate([Request(tokens=p, max_new_tokens=12) for p in PROMPTS])
  assert [c.tokens for c in completions] == [plain_greedy(tiny_model, p, 12) for p in PROMPTS]
  assert all(c.finish == "length" for c in completions)


@pytest.mark.parametrize("order", range(10))
def test_a_request_gets_the_same_tokens_whatever_its_neighbours_order_and_slot(tiny_model, order):
  requests = [
    Request(tokens=prompt, max_new_tokens=5 + n, sampling=Sampling(temperature=n % 2 * 0.9, top_p=0.8, seed=n))
    for n, prompt in enumerate(PROMPTS)
  ]
  expected = [completion.tokens for completion in engine_of(tiny_model).generate(requests)]
  shuffled = random.Random(order).sample(range(len(requests)), k=len(requests))
  completions = engine_of(tiny_model).generate([requests[n] for n in shuffled])
  assert [c.tokens for c in completions] == [expected[n] for n in shuffled]


@pytest.mark.parametrize("slots", [2, 3, 4, 7])
def test_prompts_that_are_prefilled_together_get_what_each_gets_alone(tiny_model, slots):
  requests = [Request(tokens=prompt, max_new_tokens=2 + n) for n, prompt in enumerate(PROMPTS)]
  together = engine_of(tiny_model, slots=slots).generate(requests)
  alone = [engine_of(tiny_model, slots=slots).generate([request])[0] for request in requests]
  assert [c.tokens for c in together] == [c.tokens for c in alone]
  np.testing.assert_allclose([c.logprob for c in together], [c.logprob for c in alone], atol=1e-5)


@pytest.mark.parametrize("shared", [1, 16, 21])
def test_a_prefix_that_is_computed_once_changes_no_token(tiny_model, shared):
  prefix = tiny.random_ids(shared, seed=99)
  requests = [Request(tokens=prefix + prompt, max_new_tokens=8) for prompt in PROMPTS]
  alone, together = (engine_of(tiny_model).generate(requests, shared=n) for n in (0, shared))
  assert [c.tokens for c in together] == [c.tokens for c in alone]
  np.testing.assert_allclose([c.logprob for c in together], [c.logprob for c in alone], atol=1e-4)


def test_a_shared_prefix_takes_no_place_in_the_slots(tiny_model):
  suffix, family = PROMPTS[4], family_of(tiny_model.module)

  def cache_bytes(prefix, shared):
    state = empty_slots(family, 4, [Request(tokens=prefix + suffix, max_new_tokens=8)], shared)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(state.cache))

  prefix = tiny.random_ids(1500, seed=7)
  assert cache_bytes(prefix, shared=1500) == cache_bytes([], shared=0) < cache_bytes(prefix, shared=0) / 10


def test_a_stop_token_ends_a_completion_and_is_left_out(tiny_model):
  prompt = PROMPTS[3]
  continuation = plain_greedy(tiny_model, prompt, 12)
  stop = continuation[5]
  (completion,) = engine_of(tiny_model, stop_ids=[stop]).generate([Request(tokens=prompt, max_new_tokens=12)])
  assert completion.tokens == continuation[: continuation.index(stop)]
  assert completion.finish == "stop"


def test_log_probability_is_that_of_the_training_path(tiny_model):
  prompt = PROMPTS[4]
  (completion,) = engine_of(tiny_model).generate([Request(tokens=prompt, max_new_tokens=9)])
  expected = tiny.logprobs_of(tiny_model.module, {"params": tiny_model.params}, prompt, completion.tokens).sum()
  assert completion.logprob == pytest.approx(expected, abs=1e-4)


def test_seeds_differ_and_a_seed_repeats(tiny_model):
  draws = [Request(tokens=PROMPTS[4], max_new_tokens=16, sampling=Sampling(temperature=2.0, seed=s)) for s in (1, 2, 1)]
  first, second, again = (completion.tokens for completion in engine_of(tiny_model).generate(draws))
  assert first == again != second


def test_a_tiny_top_p_is_greedy(tiny_model):
  narrow = Request(tokens=PROMPTS[2], max_new_tokens=8, sampling=Sampling(temperature=3.0, top_p=1e-6, seed=5))
  (completion,) = engine_of(tiny_model).generate([narrow])
  assert completion.tokens == plain_greedy(tiny_model, PROMPTS[2], 8)


def test_every_request_is_reported_once_and_none_is_nothing(tiny_model):
  seen = []
  engine = engine_of(tiny_model, slots=2)
  engine.generate([Request(tokens=p, max_new_tokens=3) for p in PROMPTS], lambda number, _: seen.append(number))
  assert sorted(seen) == list(range(len(PROMPTS)))
  assert engine.generate([]) == []


def test_buckets_hold_what_they_are_asked_for_and_waste_little():
  for length in range(0, 3000):
    assert length <= bucket(length) <= max(64, length + 31, length * 1.26)
