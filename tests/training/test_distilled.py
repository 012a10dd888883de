"""Distilling step-by-step: the weights of a batch make its loss the published one, in both packings."""

import jax
import numpy as np
import pytest
import tiny

from fiat_jax.data.distilled import weighed
from fiat_jax.data.packing import Shape
from fiat_jax.data.pairs import pack_pairs
from fiat_jax.data.sequences import pack
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.lora import LoraConfig
from fiat_jax.training.step import summed_gradients

LORA = LoraConfig(rank=3, targets=tiny.ALL_LINEAR)
ANSWERS = tiny.random_examples([(5, 1), (9, 2), (20, 2)])
EXPLANATIONS = tiny.random_examples([(5, 17), (9, 12), (20, 25)])
SHAPE = Shape(rows=1, length=64, targets=32)


def mean_cross_entropy(module, variables, examples):
  logprobs = [tiny.logprobs_of(module, variables, e.inputs.tolist(), e.targets.tolist()) for e in examples]
  return -float(np.concatenate(logprobs).mean())


def test_the_loss_is_half_of_each_mean(tiny_model):
  module, frozen = Decoder(tiny.CONFIG, LORA), {"params": tiny_model.params}
  adapter = tiny.random_adapter(tiny_model.params, LORA)
  batch = pack(weighed(ANSWERS, EXPLANATIONS), SHAPE)
  loss, _, tokens = jax.jit(summed_gradients, static_argnums=(0, 1))(
    module, "lora", adapter, frozen, batch, jax.random.key(0)
  )
  assert tokens == pytest.approx(sum(len(e.targets) for e in ANSWERS + EXPLANATIONS))
  halves = [mean_cross_entropy(module, {**frozen, "lora": adapter}, half) for half in (ANSWERS, EXPLANATIONS)]
  assert float(loss / tokens) == pytest.approx(sum(halves) / 2, rel=1e-5)


def test_without_explanations_answers_weigh_what_they_did():
  assert weighed(ANSWERS, []) == ANSWERS


def test_an_encoder_decoders_batch_has_the_same_weights():
  examples = weighed(ANSWERS, EXPLANATIONS)
  batch = pack_pairs(examples, SHAPE, start_id=0)
  expected = sorted(e.weight for e in examples for _ in e.targets)
  found = batch.target_weights[batch.target_weights > 0]
  np.testing.assert_allclose(np.sort(found), expected, rtol=1e-6)
