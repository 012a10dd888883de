"""The engine over T5: PyTorch's greedy tokens, the same answers in any company, likelihoods of labels."""

import numpy as np
import pytest
import t5 as small
from company import check_orders

from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.likelihood import label_logprobs
from fiat_jax.decoding.request import Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.models import t5_cached

pytestmark = pytest.mark.slow  # most of it is compiling


@pytest.fixture(scope="module", params=small.CASES)
def case(request):
  return request.param


@pytest.fixture(scope="module")
def model(case, tmp_path_factory):
  module, params = small.load(small.write_checkpoint(tmp_path_factory.mktemp(case), case))
  return module, params, t5_cached.unstack({"params": params})


def engine_of(model, slots=2, stop_ids=()):
  return Engine(model[0], model[2], stop_ids=stop_ids, slots=slots)


def requests_of(case, **settings):
  return [Request(tokens=source.tolist(), max_new_tokens=32, **settings) for source, _ in small.script().batch(case)]


def test_greedy_tokens_equal_those_of_pytorch(model, case):
  """Three sources of different lengths in two slots; nothing is kept of what prompts share."""
  requests = requests_of(case)
  for shared in (0, 1):
    completions = engine_of(model).generate(requests, shared=shared)
    for n, completion in enumerate(completions):
      wanted = small.recorded(case)[f"greedy.{n}"].tolist()
      assert completion.tokens == wanted
      assert len(set(wanted)) >= 16 and completion.finish == "length"


def test_a_stop_token_ends_a_completion_and_is_left_out(model, case):
  wanted = small.recorded(case)["greedy.2"].tolist()
  (completion,) = engine_of(model, stop_ids=[wanted[6]]).generate(requests_of(case)[2:])
  assert completion.tokens == wanted[: wanted.index(wanted[6])] and completion.finish == "stop"


def test_a_request_gets_the_same_tokens_whatever_its_neighbours_order_and_slot(model, case):
  generator = np.random.default_rng(1)
  requests = [
    Request(
      tokens=generator.integers(2, 99, 3 + 9 * n).tolist(),
      max_new_tokens=4 + n,
      sampling=Sampling(temperature=n % 2 * 0.9, top_p=0.8, seed=n),
    )
    for n in range(7)
  ]
  check_orders(engine_of(model, slots=3), requests, orders=10)


def test_log_probabilities_are_those_of_the_training_path(model, case):
  """Of a completion, and of labels that stand side by side in one row."""
  module, params, weights = model
  source = small.script().batch(case)[1][0]

  def logprob(label):
    batch = small.rows_of([(source, np.asarray(label))], 64, 32)
    logits = np.asarray(small.forward(module, {"params": params}, batch), np.float64)[0, : len(label)]
    return (logits[np.arange(len(label)), label] - np.logaddexp.reduce(logits, axis=-1)).sum()

  (completion,) = engine_of(model).generate(requests_of(case)[1:2])
  assert completion.logprob == pytest.approx(logprob(completion.tokens), abs=1e-3)
  labels = [[5, 1], [7, 8, 9, 1], [5, 6, 1]]
  wanted = [logprob(label) for label in labels]
  np.testing.assert_allclose(label_logprobs(module, weights, source.tolist(), labels), wanted, atol=1e-4)
