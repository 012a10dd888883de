"""The schedule's values, the clipping, Adafactor layer by layer."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.errors import UserError
from fiat_jax.training.optimizers import OptimizerConfig, learning_rates, optimizer
from fiat_jax.training.step import init_state


def rates(steps=100, **changes):
  found = learning_rates(OptimizerConfig(learning_rate=0.5, **changes), steps)
  return np.array([float(found.at(n)) for n in range(steps)])


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


def test_a_step_s_rate_times_the_updates_is_optaxs_adamw():
  config, rng = OptimizerConfig(learning_rate=0.3, warmup=0.2, weight_decay=0.1, clip=1e9), np.random.default_rng(0)
  schedule = optax.warmup_cosine_decay_schedule(0.3 / 4, 0.3, 3, 20 - 1)  # our warm-up's first step is its second
  ours, theirs = optimizer(config), optax.adamw(lambda n: jnp.where(n < 4, 0.3 * (n + 1) / 4, schedule(n - 1)),
                                                weight_decay=0.1)  # fmt: skip
  params = other = {"kernel": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)}
  state, other_state, found = ours.init(params), theirs.init(other), learning_rates(config, 20)
  for step in range(20):
    gradient = {"kernel": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)}
    updates, state = ours.update(gradient, state, params)
    params = optax.apply_updates(params, jax.tree.map(lambda leaf, n=step: found.at(n) * leaf, updates))
    updates, other_state = theirs.update(gradient, other_state, other)
    other = optax.apply_updates(other, updates)
  np.testing.assert_allclose(params["kernel"], other["kernel"], rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped_by_their_common_norm():
  config = OptimizerConfig(learning_rate=1.0, clip=1.0, warmup=0.0, schedule="constant")
  transform = optimizer(config)
  params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
  state = transform.init(params)
  _, state = transform.update({"a": jnp.array([30.0]), "b": jnp.array([40.0])}, state, params)
  (adam,) = [s for s in optax.tree_utils.tree_get_all_with_path(state, "mu")]
  np.testing.assert_allclose([adam[1]["a"][0], adam[1]["b"][0]], [0.06, 0.08], rtol=1e-5)


def test_adafactor_on_stacked_layers_is_adafactor_on_each_layer_alone():
  """Against optax.adafactor over a tree without stacked leaves, gradients of very different sizes in every layer."""
  rng = np.random.default_rng(0)
  shapes = {"embedding": (300, 160), "layers": {"kernel": (3, 160, 130), "scale": (3, 160)}}
  shapes |= {"encoder": {"layers": {"kernel": (1, 140, 130)}}, "decoder": {"layers": {"kernel": (2, 140, 130)}}}
  normal = lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32)  # noqa: E731
  params = jax.tree.map(normal, shapes, is_leaf=lambda node: isinstance(node, tuple))
  config = OptimizerConfig(optimizer="adafactor", learning_rate=0.1, clip=1e9)
  ours = optimizer(config)
  theirs = optax.adafactor(1.0, multiply_by_parameter_scale=False)
  unstacked = unstack(params)
  state, other_state = ours.init(params), theirs.init(unstacked)
  for size in (1.0, 30.0, 0.01, 5.0):
    gradient = jax.tree.map(lambda leaf, size=size: size * normal(leaf.shape), params)
    gradient = jax.tree_util.tree_map_with_path(scale_layers, gradient)
    updates, state = ours.update(gradient, state, params)
    other_updates, other_state = theirs.update(unstack(gradient), other_state, unstacked)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7), unstack(updates), other_updates)
    params, unstacked = optax.apply_updates(params, updates), optax.apply_updates(unstacked, other_updates)


def scale_layers(path, leaf):
  sizes = jnp.array([1.0, 100.0, 1e-3])[: len(leaf)] if "layers" in str(path) else jnp.ones(len(leaf))
  return leaf * sizes.reshape(-1, *[1] * (leaf.ndim - 1))


def unstack(tree):
  """Each layer's leaves as leaves of their own."""
  leaves = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
  return {path: list(leaf) if "layers" in path else leaf for path, leaf in leaves.items()}


def test_adafactor_keeps_rows_and_columns_of_each_layer_alone():
  params = {"layers": {"kernel": jnp.zeros((3, 200, 150))}}
  state = optimizer(OptimizerConfig(optimizer="adafactor")).init(params)
  shapes = {leaf.shape for leaf in jax.tree.leaves(state)}
  assert (3, 200) in shapes and (3, 150) in shapes
  assert sum(leaf.size for leaf in jax.tree.leaves(state)) < 3 * (200 + 150) + 20


def test_adafactor_s_state_is_saved_and_read_again(tmp_path):
  params = {name: {"layers": {"kernel": jnp.ones((n, 200, 150))}} for name, n in (("encoder", 3), ("decoder", 2))}
  params["embedding"] = jnp.ones((5, 4))
  transform = optimizer(OptimizerConfig(optimizer="adafactor"))
  _, state = transform.update(params, transform.init(params), params)
  checkpoints = RunCheckpoints(tmp_path)
  checkpoints.save(1, init_state(params, transform)._replace(optimizer=state), [])
  restored, _ = checkpoints.restore(init_state(params, transform)) or (None, None)
  checkpoints.close()
  assert jax.tree.structure(restored.optimizer) == jax.tree.structure(state)
  jax.tree.map(np.testing.assert_array_equal, restored.optimizer, state)


def test_weight_decay_is_in_the_updates_that_the_rate_multiplies_for_both():
  params = {"layers": {"kernel": jnp.full((2, 4, 4), 8.0)}}
  for name in ("adamw", "adafactor"):
    transform = optimizer(OptimizerConfig(optimizer=name, weight_decay=0.1))
    updates, _ = transform.update(jax.tree.map(jnp.zeros_like, params), transform.init(params), params)
    np.testing.assert_allclose(updates["layers"]["kernel"], -0.8, rtol=1e-6)


@pytest.mark.parametrize("changes", [{"learning_rate": 0.0}, {"schedule": "linear"}, {"optimizer": "adam"}])
def test_settings_that_cannot_train_are_refused(changes):
  with pytest.raises(UserError):
    OptimizerConfig(**changes)
