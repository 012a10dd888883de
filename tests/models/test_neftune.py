"""The noise's size, where it falls, and that a model without it is the model of before."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fiat_jax.data.packing import Shape
from fiat_jax.data.sequences import pack
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.neftune import add_noise
from fiat_jax.training.step import summed_gradients

SEGMENTS = jnp.array([[1] * 4 + [2] * 16 + [0] * 12])


def test_noise_is_uniform_within_alpha_over_the_root_of_the_segment_s_tokens_times_the_width():
  noise = np.asarray(add_noise(jax.random.key(0), jnp.zeros((1, 32, 2500)), SEGMENTS, 5.0))[0]
  for tokens, bound in ((slice(0, 4), 5 / (4 * 2500) ** 0.5), (slice(4, 20), 5 / (16 * 2500) ** 0.5)):
    part = noise[tokens] / bound
    assert 0.99 < np.abs(part).max() <= 1 + 1e-6
    np.testing.assert_allclose([part.mean(), part.var()], [0, 1 / 3], atol=0.02)
  assert not noise[20:].any()


def loss(tiny_model, alpha, key, examples=8):
  module = Decoder(tiny.CONFIG, neftune=alpha)
  batch = pack(tiny.random_examples([(6, 3)] * examples), Shape(rows=4, length=32, targets=16))
  summed = jax.jit(summed_gradients, static_argnums=(0, 1))
  return float(summed(module, "params", tiny_model.params, {}, batch, jax.random.key(key))[0])


@pytest.mark.slow
def test_noise_changes_the_loss_with_the_key_and_repeats_for_the_same(tiny_model):
  losses = [loss(tiny_model, 5.0, key) for key in (0, 0, 1)]
  assert losses[0] == losses[1] != losses[2]
  assert loss(tiny_model, 0.0, 0) == loss(tiny_model, 0.0, 1) not in losses


def test_without_alpha_or_without_a_key_the_program_is_that_of_a_model_without_noise(tiny_model):
  rows = tiny.rows_of([tiny.random_ids(9, 1)], 16)

  def program(alpha, rngs):
    apply = lambda params: Decoder(tiny.CONFIG, neftune=alpha).apply({"params": params}, *rows, rngs=rngs)  # noqa: E731
    return jax.jit(apply).lower(tiny_model.params).as_text()

  key = jax.random.key(0)
  before = program(0.0, {})
  assert before == program(0.0, {"neftune": key}) == program(5.0, {}) == program(5.0, {"dropout": key})
  assert before != program(5.0, {"neftune": key})
