"""Beam search against PyTorch's recorded answers, and against all answers that there are where there are few."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json

import numpy as np
import pytest
import t5 as small
import tiny
from golden_script import GOLDEN, golden_script
from safetensors.numpy import save_file

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.decoding.beam import Beams, search
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.request import Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.errors import UserError
from fiat_jax.models import decoder, registry, t5_cached
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.families import decoder_config

pytestmark = pytest.mark.compiled_quickly
RECORDED = json.loads((GOLDEN / "beams.json").read_text())
SEARCHES = [(name, number) for name, of in RECORDED.items() for number in range(len(of["searches"]))]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
  """Module and unstacked weights by the names in beams.json."""

  @functools.cache
  def load(name):
    folder = tmp_path_factory.mktemp(name)
    if name != "llama3":
      module, params = small.load(small.write_checkpoint(folder, name))
      return module, t5_cached.unstack({"params": params})
    described = json.loads((GOLDEN / "families.json").read_text())[name]
    (folder / "config.json").write_text(json.dumps(described["config"]))
    save_file(golden_script("families").weights(name, described["shapes"]), folder / "model.safetensors")
    source = open_checkpoint(folder)
    config = decoder_config(source.config, str(folder), "float32")
    params = load_params(source, registry.decoder_leaves(config), registry.parameter_shapes(config), "float32")
    return Decoder(config), decoder.unstack({"params": params}, config.layers)

  return load


def quick(case):
  """The first search of each model runs always; each other is another compilation."""
  return case if case[1] == 1 else pytest.param(case, marks=pytest.mark.slow)


@pytest.mark.parametrize("case", [quick(case) for case in SEARCHES], ids=str)
def test_answers_their_order_and_scores_equal_those_of_pytorch(models, case):
  """Four prompts of different lengths, two or more side by side, the others behind them."""
  recorded = RECORDED[case[0]]
  wanted = recorded["searches"][case[1]]
  beams = Beams(**{key: wanted[key] for key in ("length_penalty", "early_stopping")}, count=wanted["beams"])
  module, weights = models(case[0])
  engine = Engine(module, weights, stop_ids=wanted["stop_ids"], slots=2 * beams.count + 1)
  requests = [Request(tokens=ids, max_new_tokens=recorded["new_tokens"]) for ids in recorded["prompts"]]
  seen = []
  found = search(engine, requests, beams, lambda number, answers: seen.append(number))
  assert sorted(seen) == list(range(len(requests)))
  for answers, theirs in zip(found, wanted["answers"], strict=True):
    for (score, completion), their in zip(answers, theirs, strict=True):
      stopped = their["tokens"][-1] in wanted["stop_ids"]
      assert completion.tokens == their["tokens"][: len(their["tokens"]) - stopped]
      assert completion.finish == ("stop" if stopped else "length")
      assert score == pytest.approx(their["score"], abs=1e-4, rel=1e-6)
      assert score == pytest.approx(completion.logprob / len(their["tokens"]) ** beams.length_penalty, rel=1e-5)


def test_what_is_recorded_holds_many_tokens_ends_and_none():
  for recorded in RECORDED.values():
    found = [(wanted, a["tokens"]) for wanted in recorded["searches"] for of in wanted["answers"] for a in of]
    assert len(set(itertools.chain(*[tokens for _, tokens in found]))) >= 32
    ended = [tokens[-1] in wanted["stop_ids"] for wanted, tokens in found]
    assert 40 < sum(ended) < len(ended) - 20


FEW = dataclasses.replace(tiny.CONFIG, vocab_size=4, layers=2)
STOP, MOST = 3, 4


@functools.cache
def few():
  params = tiny.random_params(FEW, seed=5)
  return Decoder(FEW), params, decoder.unstack({"params": params}, FEW.layers)


def every_answer(prompt):
  """All answers of at most `MOST` tokens with their log-probabilities, over the training path."""
  module, params, _ = few()
  kept = [token for token in range(FEW.vocab_size) if token != STOP]
  open_ = [list(ids) for n in range(MOST) for ids in itertools.product(kept, repeat=n)]
  whole = [ids for ids in itertools.product(kept, repeat=MOST)]
  answers = [[*ids, STOP] for ids in open_] + [list(ids) for ids in whole]
  rows = tiny.rows_of([prompt + ids[:-1] for ids in answers], 16)
  logits = np.asarray(tiny.forward(module, {"params": params}, *rows), np.float64)
  logprobs = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
  at = lambda row, ids: logprobs[row, np.arange(len(ids)) + len(prompt) - 1, ids].sum()  # noqa: E731
  return {tuple(ids): at(row, ids) for row, ids in enumerate(answers)}


@pytest.mark.parametrize("early_stopping", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("penalty", [1.0, *(pytest.param(p, marks=pytest.mark.slow) for p in (0.0, 3.0, -1.0))])
def test_with_room_for_every_answer_the_search_finds_all_in_order(penalty, early_stopping):
  module, _, weights = few()
  engine = Engine(module, weights, stop_ids=[STOP], slots=1)
  prompts = [[1], [0, 2, 1, 1, 2]]
  all_of = [every_answer(prompt) for prompt in prompts]
  beams = Beams(count=len(all_of[0]), length_penalty=penalty, early_stopping=early_stopping)
  found = search(engine, [Request(tokens=prompt, max_new_tokens=MOST) for prompt in prompts], beams)
  for answers, every in zip(found, all_of, strict=True):
    scores = {ids: logprob / len(ids) ** penalty for ids, logprob in every.items()}
    ours = [(*a.completion.tokens, *[STOP] * (a.completion.finish == "stop")) for a in answers]
    assert sorted(ours) == sorted(scores)
    np.testing.assert_allclose([a.score for a in answers], [scores[ids] for ids in ours], atol=1e-4)
    np.testing.assert_allclose([a.score for a in answers], sorted(scores.values(), reverse=True), atol=1e-4)


@pytest.mark.slow
def test_one_beam_is_greedy(tiny_model):
  prompts = [tiny.random_ids(length, seed=length) for length in (1, 9, 30)]
  engine = Engine(tiny_model.module, tiny_model.layers, stop_ids=[5, 11], slots=2)
  requests = [Request(tokens=prompt, max_new_tokens=12) for prompt in prompts]
  found = search(engine, requests, Beams(count=1))
  for (answer,), greedy in zip(found, engine.generate(requests), strict=True):
    assert (answer.completion.tokens, answer.completion.finish) == (greedy.tokens, greedy.finish)
    np.testing.assert_allclose(answer.completion.logprobs, greedy.logprobs, atol=1e-5)


@pytest.mark.slow
def test_a_prompt_gets_the_same_answers_in_any_company_and_behind_a_shared_prefix(tiny_model):
  prefix = tiny.random_ids(21, seed=99)
  prompts = [prefix + tiny.random_ids(length, seed=length) for length in (70, 9, 17, 3)]
  engine = Engine(tiny_model.module, tiny_model.layers, stop_ids=[5], slots=6)
  requests = [Request(tokens=prompt, max_new_tokens=n) for prompt, n in zip(prompts, (9, 9, 7, 1), strict=True)]
  beams = Beams(count=3)
  alone = [search(engine, requests[n : n + 2], beams) for n in (0, 1)]
  wanted = [alone[0][0], alone[0][1], alone[1][1]]
  for shared in (0, 21):
    together = search(engine, requests, beams, shared=shared)
    for of, theirs in zip(together, wanted, strict=False):
      assert [a.completion.tokens for a in of] == [a.completion.tokens for a in theirs]
    assert [len(a.completion.tokens) for a in together[3]] == [1, 1, 1]
  assert search(engine, [], beams) == []


@pytest.mark.parametrize("settings", [{"sampling": Sampling(temperature=0.7)}, {"stops": ("x",)}, {"alternatives": 2}])
def test_what_a_search_cannot_do_is_refused(tiny_model, settings):
  engine = Engine(tiny_model.module, tiny_model.layers, stop_ids=[])
  with pytest.raises(UserError, match="2 beams"):
    search(engine, [Request(tokens=[1], max_new_tokens=3, **settings)], Beams(count=2))
