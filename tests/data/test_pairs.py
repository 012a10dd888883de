"""Packing prompts and targets for encoder–decoders: nothing is lost, and the loss is that of the examples."""

from __future__ import annotations

import jax
import numpy as np
import pytest
import t5 as small
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from fiat_jax.data.packing import Example, Shape
from fiat_jax.data.pairs import pack_pairs
from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.t5 import T5
from fiat_jax.training.step import summed_gradients

SHAPE = Shape(rows=2, length=48, targets=12)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 48), st.integers(1, 12)), min_size=1, max_size=12))
def test_every_example_stands_whole_in_one_row_of_both_sides(lengths):
  examples = tiny.random_examples(lengths)
  batch = pack_pairs(examples, SHAPE, start_id=96)
  found = []
  flat = [array.reshape(-1, array.shape[-1]) for array in batch[:-1]]
  for encoder, sources, decoder, targets, ids, weights in zip(*flat, strict=True):
    np.testing.assert_array_equal(weights, targets > 0)
    assert set(sources) - {0} == set(targets) - {0}
    for segment in set(sources.tolist()) - {0}:
      target = ids[targets == segment].tolist()
      assert decoder[targets == segment].tolist() == [96, *target[:-1]]
      assert np.ptp(np.flatnonzero(sources == segment)) + 1 == (sources == segment).sum()
      found.append((encoder[sources == segment].tolist(), target))
  assert sorted(found) == sorted((e.inputs.tolist(), e.targets.tolist()) for e in examples)
  assert not batch.encoder_segments[batch.microbatches :].any()


@pytest.mark.slow
def test_the_training_step_gets_the_loss_and_gradients_of_peft(tmp_path):
  """Three rows, packed into two microbatches, against PEFT's padded batch."""
  base, params = small.load(small.write_checkpoint(tmp_path, "mt5"))
  module, golden = T5(base.config, LoraConfig(rank=2, alpha=3.0)), small.recorded("mt5")
  examples = [Example(source, target, row) for row, (source, target) in enumerate(small.script().batch("mt5"))]
  batch = pack_pairs(examples, Shape(rows=1, length=160, targets=20), module.config.start_id)
  assert batch.microbatches == 2
  adapter = small.adapter_of("mt5", small.script().adapter("mt5"), module)
  step = jax.jit(summed_gradients, static_argnums=(0, 1))
  loss, gradient, tokens = step(module, "lora", adapter, {"params": params}, batch, jax.random.key(0))
  assert tokens == sum(len(example.targets) for example in examples)
  np.testing.assert_allclose(loss / tokens, golden["loss"], atol=1e-4)
  wanted = {name.removeprefix("gradient."): leaf for name, leaf in golden.items() if name.startswith("gradient.")}
  check = lambda got, want: np.testing.assert_allclose(got / tokens, want, atol=1e-4)  # noqa: E731
  jax.tree.map(check, gradient, small.adapter_of("mt5", wanted, module))
