"""What runs share: the step that one run compiled serves those of other seeds, learning rates and numbers of steps."""

import jax
import numpy as np
import tiny

from fiat_jax.compilations import counted
from fiat_jax.data.packing import Shape
from fiat_jax.data.sequences import pack
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.lora import LoraConfig
from fiat_jax.training.optimizers import OptimizerConfig, learning_rates, optimizer
from fiat_jax.training.step import init_state, make_step

LORA = LoraConfig(rank=3, targets=tiny.ALL_LINEAR, dropout=0.5)


def test_seeds_share_one_program_and_draw_otherwise(tiny_model):
  batch = pack(tiny.random_examples([(5, 1), (9, 7)]), Shape(rows=1, length=64, targets=16))
  adapter = tiny.random_adapter(tiny_model.params, LORA)

  def loss(seed: int) -> float:
    rule = optimizer(OptimizerConfig())
    step = make_step(Decoder(tiny.CONFIG, LORA), rule, "lora", seed)
    return float(step(init_state(adapter, rule), {"params": tiny_model.params}, batch)[1].loss)

  with counted() as first:
    losses = [loss(1)]
  with counted() as again:
    losses += [loss(2), loss(1)]
  assert first.made > 0 and again.made == 0, str(again)
  assert losses[0] == losses[2] != losses[1]


def test_learning_rates_and_numbers_of_steps_share_one_program(tiny_model):
  batch = pack(tiny.random_examples([(5, 1), (9, 7)]), Shape(rows=1, length=64, targets=16))
  config, adapter = LoraConfig(rank=3, targets=tiny.ALL_LINEAR), tiny.random_adapter(tiny_model.params, LORA)

  def steps(rate: float, count: int, schedule: str = "cosine"):
    """The rate and the adapter after two updates."""
    settings = OptimizerConfig(learning_rate=rate, schedule=schedule, weight_decay=0.1)  # pyright: ignore
    rule = optimizer(settings)
    step = make_step(Decoder(tiny.CONFIG, config), rule, "lora", 0, rates=learning_rates(settings, count))
    state, frozen = init_state(adapter, rule), {"params": tiny_model.params}
    state, _ = step(state, frozen, batch)
    state, metrics = step(state, frozen, batch)
    return float(metrics.rate), state.trained

  with counted() as first:
    found = [steps(1e-3, 40)]
  with counted() as again:
    found += [steps(*changes) for changes in ((3e-3, 40), (1e-3, 1000), (1e-3, 40, "constant"))]
  assert first.made > 0 and again.made == 0, str(again)
  np.testing.assert_allclose([rate for rate, _ in found], [1e-3, 3e-3, 1e-3 * 2 / 50, 1e-3], rtol=1e-6)
  leaves = [jax.tree.leaves(adapter)[0], *(jax.tree.leaves(trained)[0] for _, trained in found)]
  assert len({np.asarray(leaf).tobytes() for leaf in leaves}) == 4, "but for the first and the last"


def test_a_new_program_is_counted():
  with counted() as programs:
    jax.jit(lambda x: x * 3.25 + 1)(2.0)
  assert programs.made >= 1
