"""Steps that do not fit are done in smaller microbatches, with equal gradients and nothing lost.

Memory is not used up: the step is wrapped in one that raises, as JAX would, for microbatches of too many tokens.
"""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.data.batches import Batches
from fiat_jax.data.packing import Shape
from fiat_jax.data.sequences import pack
from fiat_jax.errors import UserError
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.decoder_only import DecoderOnly
from fiat_jax.models.lora import LoraConfig, init_adapter
from fiat_jax.training import loop, microbatch, optimizers
from fiat_jax.training.journal import Journal
from fiat_jax.training.step import init_state, make_step, summed_gradients

pytestmark = pytest.mark.compiled_quickly

LORA = LoraConfig(rank=2, targets=tiny.ALL_LINEAR)
OPTIMIZER = optimizers.OptimizerConfig(learning_rate=0.01)
STEPS = 4
WHOLE = Shape(rows=4, length=64, targets=48)


class Broken(Exception):
  """What a test breaks a run off with."""


@pytest.fixture(scope="module", params=["lora", "params"])
def run(request, tmp_path_factory, tiny_model):
  """Runs a loop in a folder: `room(step)` is how many tokens a microbatch may have, `stop` where it breaks off."""
  collection = request.param
  shard = tiny.write_shard(tmp_path_factory.mktemp("shard"), tiny.random_examples([(30, 9), (11, 20), (40, 2)] * 4))
  transform, rates = optimizers.optimizer(OPTIMIZER), optimizers.learning_rates(OPTIMIZER, STEPS)
  jitted = make_step(Decoder(tiny.CONFIG, LORA), transform, collection, seed=3, rates=rates)

  def start(folder, room, shape=WHOLE, stop=-1):
    def advance(state, frozen, batch):
      if int(state.step) == stop:
        raise Broken
      fits = batch.tokens[0].size <= room(int(state.step))
      result = jitted(state, frozen, batch)  # consumes the state where all parameters are trained, as on a device
      if not fits:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 2147483648 bytes.")
      return result

    folder.mkdir(exist_ok=True)
    params = jax.tree.map(jnp.copy, tiny_model.params)
    work = loop.Training(
      config=loop.LoopConfig(steps=STEPS, validate_every=2, metric="f1_squad"),
      advance=advance,
      frozen={"params": params} if collection == "lora" else {},
      batches=Batches(shard, size=6, seed=3, shape=shape),
      validate=lambda tree: {"f1_squad": float(jax.tree.leaves(tree)[0].sum())},
      names=lambda number: f"row-{number}",
      keeps_state=collection == "lora",
    )
    trained = init_adapter(jax.random.key(3), params, LORA) if collection == "lora" else params
    checkpoints, journal = RunCheckpoints(folder / "checkpoints"), Journal(folder)
    try:
      _, tree = loop.train(work, init_state(trained, transform), checkpoints, journal)
    finally:
      checkpoints.close()
      journal.close()
    return jax.tree.map(np.asarray, tree), [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]

  start.consumes = collection == "params"
  return start


def shapes(records):
  return [(r["step"], r["microbatch"]["rows"], r["microbatch"]["length"]) for r in records if "microbatch" in r]


def without_shapes(records):
  return [r for r in records if "microbatch" not in r]


@pytest.mark.slow
def test_what_never_fits_is_halved_and_gives_what_the_small_shape_gives(run, tmp_path):
  tree, records = run(tmp_path / "found", lambda step: 64)
  small, small_records = run(tmp_path / "small", lambda step: 64, shape=dataclasses.replace(WHOLE, rows=1))
  assert shapes(records) == [(0, 4, 64), (0, 2, 64), (0, 1, 64)] and shapes(small_records) == [(0, 1, 64)]
  jax.tree.map(np.testing.assert_array_equal, tree, small)
  assert without_shapes(records) == without_shapes(small_records)


@pytest.mark.slow
def test_a_run_killed_after_halving_goes_on_bit_for_bit(run, tmp_path):
  room = lambda step: 128 if step == 3 else 256  # noqa: E731
  tree, records = run(tmp_path / "undisturbed", room)
  # Where the step has consumed the state, the run goes back to the checkpoint of step 2.
  assert shapes(records) == [(0, 4, 64), (2 if run.consumes else 3, 2, 64)]
  assert [r["step"] for r in records if "loss" in r] == [1, 2, 3, 4]
  with pytest.raises(Broken):
    run(tmp_path / "killed", lambda step: 256, stop=3)
  again, again_records = run(tmp_path / "killed", room)
  jax.tree.map(np.testing.assert_array_equal, tree, again)
  assert again_records == records


@pytest.mark.slow
def test_a_row_that_does_not_fit_says_what_would(run, tmp_path):
  with pytest.raises(UserError) as fault:
    run(tmp_path / "run", lambda step: 40)
  message = str(fault.value)
  assert "out of memory with a single row of 64 tokens at a time (needed 2.0 GiB at once, had " in message
  assert "32 tokens fit, which 8 of 12 rows exceed" in message


@pytest.mark.slow
def test_a_model_that_does_not_fit_at_all(run, tmp_path):
  with pytest.raises(UserError, match=r"not even a short one fits: choose a smaller --model, or --dtype bfloat16"):
    run(tmp_path / "run", lambda step: 0)


@pytest.mark.slow
def test_halved_microbatches_give_equal_gradients(tiny_model):
  adapter = tiny.random_adapter(tiny_model.params, LORA)
  examples = tiny.random_examples([(30, 9), (11, 20), (40, 2), (50, 5)] * 3)
  summed = jax.jit(summed_gradients, static_argnums=(0, 1))

  def gradient(rows):
    batch = pack(examples, dataclasses.replace(WHOLE, rows=rows))
    return summed(Decoder(tiny.CONFIG, LORA), "lora", adapter, {"params": tiny_model.params}, batch, jax.random.key(0))

  whole = gradient(8)
  # A single row is compiled to other code, which rounds elsewhere; this model of large random weights makes 1e-4 of it.
  for rows, tolerance in ((4, 1e-6), (2, 1e-6), (1, 1e-3)):
    difference = jax.tree.map(jnp.subtract, gradient(rows), whole)
    assert float(optax.tree.norm(difference[1]) / optax.tree.norm(whole[1])) < tolerance
    assert abs(float(difference[0] / whole[0])) < 1e-6 and difference[2] == 0


def test_the_estimate_follows_memory_and_is_fixed_without_an_accelerator(monkeypatch):
  assert microbatch.tokens_that_fit(DecoderOnly(tiny.CONFIG), 64, held=0) == microbatch.WITHOUT_ACCELERATOR

  class Device:
    def memory_stats(self):
      return {"bytes_limit": 2**24}

  monkeypatch.setattr(jax, "local_devices", lambda: [Device()])
  tokens = [microbatch.tokens_that_fit(DecoderOnly(tiny.CONFIG), 64, held) for held in (0, 2**23, 2**24)]
  assert tokens[0] == 2 * tokens[1] > 64 and tokens[2] == 1
  assert tokens[0] * DecoderOnly(tiny.CONFIG).bytes_a_token(64) <= microbatch.SHARE * 2**24
