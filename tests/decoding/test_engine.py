"""The engine against PyTorch's continuations and against a plain loop; the same answers in any company."""

import jax
import numpy as np
import pytest
import tiny
from company import check_orders

from fiat_jax import compilations
from fiat_jax.decoding import slots as device
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.family import family_of
from fiat_jax.decoding.lengths import bucket
from fiat_jax.decoding.request import Request
from fiat_jax.decoding.sampling import Sampling

pytestmark = pytest.mark.compiled_quickly

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


def test_a_request_gets_the_same_tokens_whatever_its_neighbours_order_and_slot(tiny_model):
  requests = [
    Request(tokens=prompt, max_new_tokens=5 + n, sampling=Sampling(temperature=n % 2 * 0.9, top_p=0.8, seed=n))
    for n, prompt in enumerate(PROMPTS)
  ]
  check_orders(engine_of(tiny_model), requests, orders=10)


@pytest.mark.parametrize("slots", [2, 3, 4, 7])
def test_prompts_that_join_together_get_what_each_gets_alone(tiny_model, slots):
  requests = [Request(tokens=prompt, max_new_tokens=2 + n) for n, prompt in enumerate(PROMPTS)]
  together = engine_of(tiny_model, slots=slots).generate(requests)
  alone = [engine_of(tiny_model, slots=slots).generate([request])[0] for request in requests]
  assert [c.tokens for c in together] == [c.tokens for c in alone]
  assert [c.logprobs for c in together] == [c.logprobs for c in alone]


@pytest.mark.parametrize("shared", [1, 16, 21])
def test_a_prefix_that_is_computed_once_changes_no_token(tiny_model, shared):
  prefix = tiny.random_ids(shared, seed=99)
  requests = [Request(tokens=prefix + prompt, max_new_tokens=8) for prompt in PROMPTS]
  alone, together = (engine_of(tiny_model).generate(requests, shared=n) for n in (0, shared))
  assert [c.tokens for c in together] == [c.tokens for c in alone]
  np.testing.assert_allclose([c.logprob for c in together], [c.logprob for c in alone], atol=1e-4)


def test_prefixes_of_two_lengths_in_one_bucket_share_their_programs(tiny_model):
  engine = engine_of(tiny_model, slots=6)  # as no other test has
  made = []
  for shared in (16, 21):
    prefix = tiny.random_ids(shared, seed=99)
    with compilations.counted() as programs:
      engine.generate([Request(tokens=prefix + prompt, max_new_tokens=8) for prompt in PROMPTS[:2]], shared=shared)
    made.append(programs.made)
  assert made[0] > made[1] == 0


def test_a_shared_prefix_takes_no_place_in_the_slots(tiny_model):
  suffix, family = PROMPTS[4], family_of(tiny_model.module)

  def cache_bytes(prefix, shared):
    lengths = Lengths.of([Request(tokens=prefix + suffix, max_new_tokens=8)])
    cache = family.empty(4, family.room(*(length - shared for length in lengths[:2]), lengths.new))
    return sum(leaf.nbytes for leaf in jax.tree.leaves(cache))

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


def session_of(model, slots=3, decode=None, **lengths):
  engine = Engine(model.module, model.layers, stop_ids=(), slots=slots, decode=decode)
  return Session(engine, Lengths(**({"prompt": 40, "whole": 72, "new": 40} | lengths)))


@pytest.mark.parametrize(("prompt", "new"), [(41, 10), (40, 33), (10, 41)])
def test_a_request_that_its_session_has_no_room_for_is_refused_and_not_cut(tiny_model, prompt, new):
  session = session_of(tiny_model)
  with pytest.raises(ValueError, match=r"longer than its session: .* where .* fit"):
    session.add(Request(tokens=tiny.random_ids(prompt, seed=0), max_new_tokens=new))
  assert not len(session)


def run(session):
  ended = {}
  while session:
    ended |= dict(session.advance())
  return ended


def test_requests_join_while_others_are_decoded(tiny_model):
  session, numbers, ended = session_of(tiny_model, slots=2), {}, {}
  for n, prompt in enumerate(PROMPTS):
    numbers[session.add(Request(tokens=prompt, max_new_tokens=4 + 5 * n))] = n
    ended |= dict(session.advance())
  ended |= run(session)
  for number, n in numbers.items():
    assert ended[number].tokens == plain_greedy(tiny_model, PROMPTS[n], 4 + 5 * n)
  assert session.free == 2 and not len(session)


def test_a_request_that_is_dropped_frees_its_slot_and_disturbs_no_other(tiny_model):
  session = session_of(tiny_model, slots=2)
  gone, kept, waits, never = (session.add(Request(tokens=p, max_new_tokens=30)) for p in PROMPTS[:4])
  session.advance()
  assert session.answer(gone).tokens == plain_greedy(tiny_model, PROMPTS[0], device.CHUNK) and session.free == 0
  session.drop(gone)
  session.drop(never)
  assert session.free == 1
  ended = run(session)
  assert sorted(ended) == [kept, waits]
  assert ended[kept].tokens == plain_greedy(tiny_model, PROMPTS[1], 30)
  assert ended[waits].tokens == plain_greedy(tiny_model, PROMPTS[2], 30)


@pytest.mark.parametrize("slots", [1, 3, 8])
def test_samples_of_a_prompt_share_its_prefill(tiny_model, slots, monkeypatch):
  computed = []
  prefill = device.prefill
  monkeypatch.setattr(device, "prefill", lambda *a: computed.append(set(a[4].slot.tolist())) or prefill(*a))
  requests = [
    Request(tokens=prompt, max_new_tokens=3 + 4 * n, sampling=Sampling(temperature=1.0, seed=n))
    for prompt in PROMPTS[3:6]
    for n in range(5)
  ]
  together = engine_of(tiny_model, slots=slots).generate(requests)
  assert sum(map(len, computed)) == 3
  alone = [engine_of(tiny_model, slots=slots).generate([request])[0].tokens for request in requests]
  assert [c.tokens for c in together] == alone
  assert len({tuple(c.tokens) for c in together}) > 10


def test_a_slot_is_not_copied_once_another_prompt_stands_there(tiny_model):
  session = session_of(tiny_model, slots=2)
  order = [0, 1, 2, 0, 1, 2, 2, 0]
  numbers = [session.add(Request(tokens=PROMPTS[n], max_new_tokens=2 + n)) for n in order]
  ended = run(session)
  for number, n in zip(numbers, order, strict=True):
    assert ended[number].tokens == plain_greedy(tiny_model, PROMPTS[n], 2 + n)


def letters(ids):
  return "".join(chr(97 + id % 26) for id in ids)


@pytest.mark.parametrize("length", [1, 2, 3])
@pytest.mark.parametrize("begin", [0, 6, 14])
def test_a_stop_text_ends_an_answer_before_it(tiny_model, begin, length):
  prompt = PROMPTS[4]
  whole = letters(plain_greedy(tiny_model, prompt, 24))
  stop = whole[begin : begin + length]
  session = session_of(tiny_model, decode=letters)
  number = session.add(Request(tokens=prompt, max_new_tokens=24, stops=("0", stop)))
  other = session.add(Request(tokens=prompt, max_new_tokens=24, stops=("0",)))
  ended = run(session)
  assert ended[number].text == whole[: whole.index(stop)] and ended[number].finish == "stop"
  assert letters(ended[number].tokens) == ended[number].text
  assert ended[other].text is None and letters(ended[other].tokens) == whole and ended[other].finish == "length"


def test_the_most_likely_tokens_are_reported_beside_the_chosen_one(tiny_model):
  prompt = PROMPTS[4]
  request = Request(tokens=prompt, max_new_tokens=9, alternatives=3)
  plain, asked = engine_of(tiny_model).generate([Request(tokens=prompt, max_new_tokens=9), request])
  assert plain.tokens == asked.tokens and not plain.alternatives
  logits = tiny.logits_of(tiny_model.module, {"params": tiny_model.params}, [*prompt, *asked.tokens])
  logprobs = np.asarray(jax.nn.log_softmax(logits))[len(prompt) - 1 :]
  for place, (token, logprob, likely) in enumerate(zip(asked.tokens, asked.logprobs, asked.alternatives, strict=True)):
    assert logprob == pytest.approx(logprobs[place, token], abs=1e-4)
    assert [id for id, _ in likely] == np.argsort(-logprobs[place])[:3].tolist()
    assert likely[0] == (token, pytest.approx(logprob, abs=1e-5))
  assert asked.logprob == pytest.approx(sum(asked.logprobs), abs=1e-4)
