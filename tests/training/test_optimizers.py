"""The schedule's values and the clipping."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fiat_jax.errors import UserError
from fiat_jax.training.optimizers import OptimizerConfig, learning_rate, optimizer


def rates(steps=100, **changes):
  schedule = learning_rate(OptimizerConfig(learning_rate=0.5, **changes), steps)
  return np.array([float(schedule(n)) for n in range(steps)])


def test_warm_up_rises_in_equal_parts_to_the_peak():
  np.testing.assert_allclose(rates(warmup=0.1)[:10], 0.05 * np.arange(1, 11), rtol=1e-6)


def test_cosine_falls_to_almost_nothing_and_constant_stays():
  cosine, constant = rates(warmup=0.1), rates(warmup=0.1, schedule="constant")
  assert np.all(np.diff(cosine[10:]) < 0) and cosine[-1] < 0.001
  assert cosine[10 + 45] == pytest.approx(0.25, rel=1e-5)
  np.testing.assert_allclose(constant[10:], 0.5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_short_run_has_a_rate_for_every_step(steps):
  assert np.all(rates(steps) > 0) and np.all(rates(steps) <= 0.5)


def test_gradients_are_clipped_by_their_common_norm():
  config = OptimizerConfig(learning_rate=1.0, clip=1.0, warmup=0.0, schedule="constant")
  transform = optimizer(config, 10)
  params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
  state = transform.init(params)
  _, state = transform.update({"a": jnp.array([30.0]), "b": jnp.array([40.0])}, state, params)
  (adam,) = [s for s in optax.tree_utils.tree_get_all_with_path(state, "mu")]
  np.testing.assert_allclose([adam[1]["a"][0], adam[1]["b"][0]], [0.06, 0.08], rtol=1e-5)


@pytest.mark.parametrize("changes", [{"learning_rate": 0.0}, {"schedule": "linear"}])
def test_settings_that_cannot_train_are_refused(changes):
  with pytest.raises(UserError):
    OptimizerConfig(**changes)
