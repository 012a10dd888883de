"""`fiat bench`: how fast this machine trains and decodes, on real rows. One JSON line a measurement."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import jax

from fiat_jax import runtime, sharding
from fiat_jax.configuration import Configuration
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.request import Request
from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.training import microbatch, optimizers
from fiat_jax.training.module import for_training
from fiat_jax.training.step import init_state, make_step
from fiat_jax.verbs.train import one_recipe
from fiat_jax.verbs.tuning import optimizer_config
from fiat_jax.workbench import Workbench
from fiat_jax.workbench.batches import make_batches


def main(configuration: Configuration) -> None:
  settings = configuration.settings
  settings.answers("bench")
  recipe = configuration.recipe(one_recipe(settings))
  if not {"train", "test"} & set(settings.files()):
    raise UserError("nothing to measure: give --train FILE to time training, --test FILE to time decoding")
  if not recipe.adapts:
    raise UserError(f"the recipe {recipe.title!r} has no adapter: bench times the training of one")
  started = time.perf_counter()
  runtime.start(settings)
  bench = Workbench(configuration.only("train", "test"))
  bench.prepare([recipe])
  bench = bench.of(recipe)
  if "train" in bench.rows:
    _print("train", bench, _train(bench, recipe, started))
  if "test" in bench.rows:
    _print("generate", bench, _generate(bench, recipe))


def _train(bench: Workbench, recipe: Recipe, started: float) -> dict[str, float]:
  """One pass over the rows after a first step that compiles; sources and targets are counted, padding is not."""
  settings = bench.settings
  shard = bench.shards.of("train", recipe)
  steps = settings.steps or len(shard) // settings.batch
  if steps < 2:
    raise UserError(f"{len(shard)} rows make {steps} batches of {settings.batch}: at least 2 are needed")
  config = optimizer_config(settings)
  optimizer, rates = optimizers.optimizer(config), optimizers.learning_rates(config, steps)
  params = bench.models.params(recipe)
  state = init_state(bench.models.new_adapter(recipe, seed=0), optimizer)
  trained = for_training(bench.models.of(recipe).module, settings)
  step = make_step(trained, optimizer, "lora", 0, lies=sharding.lies(state), rates=rates)
  frozen = {"params": params}
  batches = make_batches(bench, recipe, settings.batch, seed=0, held=microbatch.size((frozen, state)))
  state, _ = jax.block_until_ready(step(state, frozen, sharding.rows(batches[0])))
  begun = time.perf_counter()
  tokens = 0
  for number in range(1, steps):
    state, _ = jax.block_until_ready(step(state, frozen, sharding.rows(batches[number])))
    tokens += sum(shard[row].length for row in batches.rows(number))
    say(f"step {number + 1}/{steps}")
  seconds = time.perf_counter() - begun
  examples = (steps - 1) * settings.batch
  speeds = {"examples_per_s": examples / seconds, "tokens_per_s": tokens / seconds}
  return speeds | {"first_step_s": begun - started}


def _generate(bench: Workbench, recipe: Recipe) -> dict[str, float]:
  """Every prompt gets exactly TARGET_LENGTH new tokens; prefill is counted in."""
  settings = bench.settings
  shard = bench.shards.of("test", recipe)
  engine = Engine(
    bench.models.of(recipe).module, bench.models.engine(recipe).weights, stop_ids=(), slots=settings.slots
  )
  requests = [
    Request(tokens=shard[n].inputs.tolist(), max_new_tokens=settings.target_length) for n in range(len(shard))
  ]
  shared = shard.shared_prefix()
  engine.generate(requests, shared=shared)  # compiles
  begun = time.perf_counter()
  engine.generate(requests, shared=shared)
  return {"new_tokens_per_s": len(requests) * settings.target_length / (time.perf_counter() - begun)}


def _print(work: str, bench: Workbench, figures: dict[str, float]) -> None:
  unit = 2**30 if sys.platform == "darwin" else 2**20
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
  record: dict[str, Any] = {"work": work, "dtype": bench.settings.dtype, "device": jax.devices()[0].device_kind}
  record |= {"batch": bench.settings.batch, "peak_gib": round(peak, 2)}
  print(json.dumps(record | {name: round(value, 2) for name, value in figures.items()}), flush=True)
