"""What runs share: the step that one seed's run compiled serves those of other seeds."""

import jax
import tiny

from fiat_jax.compilations import counted
from fiat_jax.data.packing import Shape
from fiat_jax.data.sequences import pack
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.lora import LoraConfig
from fiat_jax.training.optimizers import OptimizerConfig, optimizer
from fiat_jax.training.step import init_state, make_step

LORA = LoraConfig(rank=3, targets=tiny.ALL_LINEAR, dropout=0.5)


def test_seeds_share_one_program_and_draw_otherwise(tiny_model):
  batch = pack(tiny.random_examples([(5, 1), (9, 7)]), Shape(rows=1, length=64, targets=16))
  adapter = tiny.random_adapter(tiny_model.params, LORA)

  def loss(seed: int) -> float:
    rule = optimizer(OptimizerConfig(), 10)
    step = make_step(Decoder(tiny.CONFIG, LORA), rule, "lora", seed)
    return float(step(init_state(adapter, rule), {"params": tiny_model.params}, batch)[1].loss)

  with counted() as first:
    losses = [loss(1)]
  with counted() as again:
    losses += [loss(2), loss(1)]
  assert first.made > 0 and again.made == 0, str(again)
  assert losses[0] == losses[2] != losses[1]


def test_a_new_program_is_counted():
  with counted() as programs:
    jax.jit(lambda x: x * 3.25 + 1)(2.0)
  assert programs.made >= 1
