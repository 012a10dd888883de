"""One step: sums over microbatches, targets alone, what is trained and what is not."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from fiat_jax.data.packing import Shape
from fiat_jax.data.sequences import pack
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.lora import LoraConfig
from fiat_jax.training.step import init_state, make_step, summed_gradients

pytestmark = pytest.mark.compiled_quickly

LORA = LoraConfig(rank=3, targets=tiny.ALL_LINEAR)
EXAMPLES = tiny.random_examples([(5, 1), (9, 7), (20, 2), (3, 12), (30, 4), (11, 1), (6, 6), (25, 3)])
WHOLE, QUARTERS = Shape(rows=4, length=64, targets=32), Shape(rows=1, length=64, targets=32)


@pytest.fixture
def adapted(tiny_model):
  """The tiny module with LoRA on every projection, its frozen collections, a random adapter."""
  adapter = tiny.random_adapter(tiny_model.params, LORA)
  return Decoder(tiny.CONFIG, LORA), {"params": tiny_model.params}, adapter


def gradients(adapted, batch):
  module, frozen, adapter = adapted
  return _summed(module, "lora", adapter, frozen, batch, jax.random.key(0))


_summed = jax.jit(summed_gradients, static_argnums=(0, 1))


def assert_same(one, other, tolerance=1e-4):
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(jnp.abs(b).max() + 1e-6))


def test_four_microbatches_with_unequal_target_counts_equal_the_whole_batch(adapted):
  whole, quarters = (pack(EXAMPLES, Shape(rows=rows, length=40, targets=32)) for rows in (4, 1))
  assert (whole.microbatches, quarters.microbatches) == (1, 4)
  counts = quarters.target_weights.sum(axis=(1, 2))[: quarters.microbatches]
  assert len(set(counts.tolist())) > 1
  assert_same(gradients(adapted, quarters), gradients(adapted, whole))


def test_what_is_one_microbatch_is_no_loop_of_which_a_compiler_would_do_a_part_twice(adapted):
  module, frozen, adapter = adapted
  loops = []
  for shape in (WHOLE, QUARTERS):
    batch = pack(EXAMPLES, shape)
    text = str(
      jax.make_jaxpr(summed_gradients, static_argnums=(0, 1))(module, "lora", adapter, frozen, batch, jax.random.key(0))
    )
    loops.append(text.count("while["))
  assert loops == [0, 1]


def test_gradient_is_the_sum_of_each_example_alone(adapted):
  alone = [gradients(adapted, pack([example], QUARTERS)) for example in EXAMPLES]
  assert_same(jax.tree.map(lambda *parts: sum(parts), *alone), gradients(adapted, pack(EXAMPLES, WHOLE)))


def test_loss_is_the_cross_entropy_of_the_targets_alone(adapted):
  module, frozen, adapter = adapted
  loss, _, tokens = gradients(adapted, pack(EXAMPLES, WHOLE))
  variables = {**frozen, "lora": adapter}
  expected = -sum(tiny.logprobs_of(module, variables, e.inputs.tolist(), e.targets.tolist()).sum() for e in EXAMPLES)
  assert tokens == sum(len(e.targets) for e in EXAMPLES)
  assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_what_stands_in_padding_changes_nothing(adapted):
  batch = pack(EXAMPLES[:3], QUARTERS)
  scribbled = batch._replace(
    tokens=np.where(batch.segments == 0, 13, batch.tokens),
    target_ids=np.where(batch.target_weights == 0, 17, batch.target_ids),
  )
  jax.tree.map(np.testing.assert_array_equal, gradients(adapted, batch), gradients(adapted, scribbled))


@pytest.mark.parametrize("collection", ["lora", "params"])
def test_a_few_steps_learn_a_batch_by_heart(adapted, collection):
  module, frozen, adapter = adapted
  trained = adapter if collection == "lora" else jax.tree.map(jnp.copy, frozen["params"])
  before = jax.tree.map(np.asarray, frozen)
  step = make_step(module, optax.adam(3e-3), collection, seed=0)
  state, batch = init_state(trained, optax.adam(3e-3)), pack(EXAMPLES, QUARTERS)
  losses = []
  for _ in range(40):
    state, metrics = step(state, frozen if collection == "lora" else {}, batch)
    losses.append(float(metrics.loss))
  assert losses[-1] < losses[0] / 2
  assert int(state.step) == 40
  jax.tree.map(np.testing.assert_array_equal, before, jax.tree.map(np.asarray, frozen))


def test_reported_loss_and_norm_are_means_over_target_tokens(adapted):
  module, frozen, adapter = adapted
  batch = pack(EXAMPLES, WHOLE)
  loss, gradient, tokens = gradients(adapted, batch)
  _, metrics = make_step(module, optax.sgd(0.1), "lora", seed=0)(init_state(adapter, optax.sgd(0.1)), frozen, batch)
  assert float(metrics.loss) == pytest.approx(float(loss / tokens), rel=1e-5)
  assert float(metrics.grad_norm) == pytest.approx(float(optax.tree.norm(gradient) / tokens), rel=1e-5)


def test_microbatches_beyond_the_last_are_not_computed(adapted):
  batch = pack(EXAMPLES, Shape(rows=1, length=34, targets=32))
  assert batch.microbatches < len(batch.tokens)
  scribbled = [np.array(array) for array in batch[:-1]]
  for array in scribbled:
    array[batch.microbatches :] = 1
  other = type(batch)(*scribbled, microbatches=batch.microbatches)
  jax.tree.map(np.testing.assert_array_equal, gradients(adapted, batch), gradients(adapted, other))


@pytest.mark.slow
def test_dropout_differs_by_step_and_seed_and_repeats_for_the_same(adapted):
  _, frozen, adapter = adapted
  module, batch = Decoder(tiny.CONFIG, LoraConfig(rank=3, dropout=0.5, targets=tiny.ALL_LINEAR)), pack(EXAMPLES, WHOLE)
  state = init_state(adapter, optax.sgd(0.1))
  later = state._replace(step=state.step + 1)
  losses = []
  for seed in (0, 1):
    step = make_step(module, optax.sgd(0.1), "lora", seed)
    losses += [float(step(before, frozen, batch)[1].loss) for before in (state, state, later)]
  assert losses[0] == losses[1] and losses[3] == losses[4]
  assert len(set(losses)) == 4
