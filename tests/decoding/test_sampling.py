"""Choosing a token: how often each is drawn, what top_p leaves out, what a slot's neighbours change."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiat_jax.decoding.sampling import Sampling, SlotSampling, choose
from fiat_jax.errors import UserError

LOGITS = np.log(np.array([0.05, 0.4, 0.1, 0.25, 0.2], np.float32))


def draw(count, temperature, top_p, first_seed=0, position=7):
  """The token that each of so many seeds draws from `LOGITS`."""
  slots = SlotSampling(jnp.full(count, temperature), jnp.full(count, top_p), first_seed + jnp.arange(count))
  return np.asarray(choose(jnp.tile(LOGITS, (count, 1)), slots, jnp.full(count, position, jnp.int32), any_sampled=True))


@pytest.mark.parametrize(
  ("temperature", "top_p", "expected"),
  [
    (1.0, 1.0, [0.05, 0.4, 0.1, 0.25, 0.2]),
    (1.0, 0.7, [0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85]),  # 0.4 + 0.25 falls short of 0.7
    (1.0, 0.6, [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0]),
    (0.5, 1.0, np.square([0.05, 0.4, 0.1, 0.25, 0.2]) / 0.275),
    (0.0, 1.0, [0, 1, 0, 0, 0]),
  ],
)
def test_tokens_are_drawn_as_often_as_temperature_and_top_p_say(temperature, top_p, expected):
  shares = np.bincount(draw(8000, temperature, top_p), minlength=5) / 8000
  np.testing.assert_allclose(shares, expected, atol=0.025)
  assert not shares[np.asarray(expected) == 0].any()


def test_a_draw_depends_on_seed_and_position_alone():
  many, one = draw(50, 1.0, 1.0), [draw(1, 1.0, 1.0, first_seed=n)[0] for n in range(50)]
  np.testing.assert_array_equal(many, one)
  assert (many != draw(50, 1.0, 1.0, position=8)).any()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from([-1.0, 0.0, 2.0, 2.5]), min_size=4, max_size=4))
def test_greedy_takes_the_first_of_the_best(row):
  slots = SlotSampling(jnp.zeros(2), jnp.ones(2), jnp.zeros(2, jnp.int32))
  logits = jnp.asarray([row, row[::-1]], jnp.float32)
  for any_sampled in (False, True):
    tokens = choose(logits, slots, jnp.zeros(2, jnp.int32), any_sampled=any_sampled)
    np.testing.assert_array_equal(tokens, np.argmax(logits, axis=-1))


@pytest.mark.parametrize("settings", [{"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}])
def test_settings_without_a_meaning_are_refused(settings):
  with pytest.raises(UserError, match=r"temperature .* top_p"):
    Sampling(**settings)
