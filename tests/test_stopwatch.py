"""The stopwatch that compiling does not run on."""

import time

import jax
import jax.numpy as jnp
import pytest

from fiat_jax.stopwatch import covered, warm


def test_spans_within_one_another_count_once():
  assert covered([(0, 10), (2, 3), (9, 12), (20, 21)]) == 13
  assert covered([]) == 0


def test_a_first_call_is_timed_without_its_compilation():
  def deep(x):
    for n in range(300):
      x = jnp.sin(x) @ x + n
    return x

  x = jnp.ones((2, 2))
  started = time.monotonic()
  with warm() as elapsed:
    jax.block_until_ready(jax.jit(deep)(x))
    time.sleep(0.05)
  whole = time.monotonic() - started
  assert 0.05 <= elapsed.seconds < 0.5 * whole
  with warm() as slept:
    time.sleep(0.02)
  assert slept.seconds == pytest.approx(0.02, abs=0.05) and slept.seconds >= 0.02
