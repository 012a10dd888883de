"""`fiat train`: one recipe, from rows to an adapter and its scores."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp

from fiat_jax import runtime
from fiat_jax.checkpoints import peft
from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.configuration import Configuration
from fiat_jax.data.batches import Batches, choose_shape, longest_size
from fiat_jax.data.pairs import packing_of
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.models import lora
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.run_folder import occupied
from fiat_jax.settings import Settings
from fiat_jax.training import loop, microbatch, optimizers
from fiat_jax.training.journal import Journal
from fiat_jax.training.step import init_state, make_step
from fiat_jax.verbs.objectives import Objective, objective_of
from fiat_jax.whole import write_whole
from fiat_jax.workbench import Workbench, lora_config, without_reasoning

DEFAULT_RECIPES = {"answer": "fiat", "span_corruption": "full_fine_tuning", "chat": "fine_tuning"}


def main(configuration: Configuration) -> None:
  settings = configuration.settings
  name = one_recipe(settings)
  recipe = configuration.recipe(name)
  if not recipe.trains:
    raise UserError(f"the recipe {name!r} tunes nothing: use `fiat compare` or `fiat evaluate`")
  if len(settings.seeds) != 1:
    raise UserError(f"--seeds {settings.seeds}: train takes one seed; compare runs several")
  runtime.start()
  metrics.check(settings.metrics, bool(settings.labels), settings.allow_code_execution)
  optimizer_config(settings)
  bench = Workbench(configuration, labelled=not settings.corrupts)
  objective = objective_of(bench, recipe)
  bench.prepare([recipe])
  result = train_recipe(bench, name, recipe, pathlib.Path(settings.model_dir), settings.seeds[0])
  objective.show([result], "test" if "test" in result else "validation")
  adapter = f"; its adapter, in PEFT's format, is in {settings.model_dir}/adapter" if recipe.adapter == "lora" else ""
  print(f"\n{settings.model_dir} holds the run{adapter}")


def one_recipe(settings: Settings) -> str:
  names = list(settings.recipes) or [DEFAULT_RECIPES[settings.objective]]
  if len(names) > 1:
    raise UserError(f"--recipes {','.join(names)}: give one here; `fiat compare` takes several")
  return names[0]


def train_recipe(bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path, seed: int) -> dict[str, Any]:
  """Trains, or goes on, or finds it done; returns and writes `results.json`.

  Raises:
    UserError: no training or validation rows, or the folder holds another run.
  """
  for split in ("train", "validation"):
    if split not in bench.rows:
      raise UserError(f"no --{split} rows: give --{split} FILE, or --data FILE to be split")
  bench.check()
  configuration = bench.configuration.of_run(name, seed, str(folder))
  with occupied(folder, configuration.text(), bench.fingerprints([recipe])):
    bench.keep_splits(folder)
    done = folder / "results.json"
    if done.exists():
      say(f"{folder} is done")
      return json.loads(done.read_text())
    result = _result(bench, name, recipe, folder, seed)
    write_whole(done, json.dumps(result, indent=2) + "\n")
    return result


def _result(bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path, seed: int) -> dict[str, Any]:
  """Trains, writes adapter and predictions, and returns what `results.json` will hold."""
  settings = bench.settings
  started = time.monotonic()
  objective = objective_of(bench, recipe)
  figures, trained = _train(bench, recipe, objective, folder, seed)
  result: dict[str, Any] = {"recipe": name, "title": recipe.title, "seed": seed, **figures}
  result["tuned_parameters"] = lora.count(trained)
  if recipe.adapter == "lora":
    family, base = bench.model(recipe).family, bench.configuration.model_of(recipe)
    peft.write_adapter(folder / "adapter", trained, family, lora_config(settings), base=base)
  result |= bench.truncated(recipe)
  for split in ("validation", "test"):
    if split in bench.rows:
      result[split] = objective.judge(split, trained, folder)
  result |= {"answer_seconds": objective.seconds} if objective.seconds else {}
  result["seconds"] = round(time.monotonic() - started, 1)
  return result


def _train(
  bench: Workbench, recipe: Recipe, objective: Objective, folder: pathlib.Path, seed: int
) -> tuple[dict[str, Any], Any]:
  """The best step and how many were taken, for the results, and the best trained tree."""
  settings, module = bench.settings, bench.model(recipe).module
  examples = bench.examples("train", recipe)
  count, size = len(examples), min(settings.batch, len(examples))
  if size < settings.batch:
    say(f"--batch {settings.batch} is more than the {count} training {objective.unit}: an update takes them all once")
  steps = settings.steps or max(1, math.ceil(settings.epochs * count / size))
  full, params = recipe.adapter == "full", bench.params(recipe)
  if full:
    trained, frozen = jax.tree.map(jnp.copy, params), {}
  else:
    trained = lora.init_adapter(jax.random.key(seed), params, lora_config(settings))
    frozen = {"params": params}
  optimizer = optimizers.optimizer(optimizer_config(settings), steps)
  state = init_state(trained, optimizer)
  batches = make_batches(bench, recipe, size, seed, held=microbatch.size((frozen, state, trained)))
  say(
    f"{recipe.title}: {count} {objective.unit}, {steps} steps of {size}, packed into rows of "
    f"{batches.shape.length} tokens; {lora.count(trained):,} of {lora.count(params):,} parameters are tuned"
  )

  work = loop.Training(
    config=loop.LoopConfig(
      steps=steps,
      validate_every=settings.validate_every or max(1, -(-steps // 4)),
      metric=settings.scores[0],
      patience=settings.patience,
    ),
    advance=make_step(module.clone(neftune=settings.neftune), optimizer, "params" if full else "lora", seed),
    frozen=frozen,
    batches=batches,
    validate=objective.validate,
    rates=optimizers.learning_rate(optimizer_config(settings), steps),
    names=lambda number: bench.rows["train"][int(examples.sources[number])].id,
    keeps_state=not full,
  )
  checkpoints, journal = RunCheckpoints(folder / "checkpoints"), Journal(folder)
  with contextlib.closing(journal), contextlib.closing(checkpoints):
    best, tree = loop.train(work, state, checkpoints, journal)
    last = journal.records[-1]["step"]
    before = {"before": journal.validation(0)} if settings.by_loss else {}
    curve = [{"step": r["step"], **r["validation"]} for r in journal.records if "validation" in r]
    return {"best_step": best, "steps": last, "stopped_early": last < steps, **before, "curve": curve}, tree


def make_batches(bench: Workbench, recipe: Recipe, size: int, seed: int, held: int) -> Batches:
  """The training rows in microbatches of the size that was asked for, or is estimated to fit beside `held` bytes."""
  settings, shard = bench.settings, bench.examples("train", recipe)
  dropout = settings.reasoning_dropout if recipe.reasoning else 0.0
  short = bench.shard("train", without_reasoning(recipe)) if dropout else None
  family = bench.model(recipe).family
  packing = packing_of(family.start_id)
  tokens = settings.microbatch_tokens or microbatch.tokens_that_fit(family, longest_size(packing, shard, short), held)
  shape = choose_shape(shard, tokens, size, short, packing)
  return Batches(shard, size=size, seed=seed, shape=shape, short=short, dropout=dropout, packing=packing)


def optimizer_config(settings: Settings) -> optimizers.OptimizerConfig:
  return optimizers.OptimizerConfig(
    optimizer=settings.optimizer,  # pyright: ignore[reportArgumentType]  checked when it is made
    learning_rate=settings.learning_rate,
    schedule=settings.schedule,  # pyright: ignore[reportArgumentType]  checked when it is made
    warmup=settings.warmup,
    weight_decay=settings.weight_decay,
    clip=settings.clip,
  )
