"""One recipe tuned, from its rows to an adapter, its predictions and its scores, in a run folder of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fiat_jax import compilations, processes, sharding
from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.data.batches import drawn
from fiat_jax.errors import UserError
from fiat_jax.models import lora
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.run_folder import occupied
from fiat_jax.settings import Settings
from fiat_jax.training import loop, microbatch, optimizers
from fiat_jax.training.journal import Journal
from fiat_jax.training.module import for_training
from fiat_jax.training.optimizers import OptimizerConfig
from fiat_jax.training.step import init_state, make_step
from fiat_jax.verbs.best import restore_best
from fiat_jax.verbs.objectives import Objective, objective_of
from fiat_jax.whole import read_result, write_whole
from fiat_jax.workbench import Workbench
from fiat_jax.workbench.batches import make_batches

JUDGED = ("validation", "test")


def first_stage(bench: Workbench, recipe: Recipe) -> dict[str, Recipe]:
  """The recipe, by its name, from whose tuned parameters this one starts; empty where it starts from none.

  Raises:
    UserError: there is no such recipe, it tunes other parameters, or starts from another itself.
  """
  if not recipe.begins_with:
    return {}
  first = bench.configuration.recipe(recipe.begins_with)
  same = all(getattr(first, name) == getattr(recipe, name) for name in ("adapter", "adapted", "instruction_tuned"))
  if not first.trains or not same or first.begins_with:
    raise UserError(
      f"the recipe {recipe.title!r} cannot begin with {recipe.begins_with!r}: that is to tune the same parameters, and "
      "to start from the model as it came"
    )
  return {recipe.begins_with: first}


def train_recipe(
  bench: Workbench,
  name: str,
  recipe: Recipe,
  folder: pathlib.Path,
  seed: int,
  first: pathlib.Path | None = None,
  judged: Sequence[str] = JUDGED,
) -> dict[str, Any]:
  """Trains, or goes on, or finds it done; returns and writes `results.json`.

  Args:
    first: the run folder of the recipe that it begins with, done or not; a folder in its own where none is given.
    judged: the splits that the best checkpoint answers.

  Raises:
    UserError: no training or validation rows, or the folder holds another run.
  """
  bench = bench.of(recipe)
  for split in ("train", "validation"):
    if split not in bench.rows:
      raise UserError(f"no --{split} rows: give --{split} FILE, or --data FILE to be split")
  bench.check([recipe])
  configuration = bench.configuration.of_run(name, seed, str(folder))
  with occupied(folder, configuration.text(), bench.fingerprints([recipe]), bare=bench.bare_fingerprints()):
    bench.keep_splits(folder)
    done = folder / "results.json"
    if processes.by_first(done.exists):
      say(f"{folder} is done")
      return read_result(done)
    compilations.make_room()
    with compilations.counted() as programs:
      result = _result(bench, name, recipe, folder, seed, first or folder / "first", judged)
    result["programs"] = dataclasses.asdict(programs)
    write_whole(done, json.dumps(result, indent=2) + "\n")
    return result


def _result(
  bench: Workbench,
  name: str,
  recipe: Recipe,
  folder: pathlib.Path,
  seed: int,
  first: pathlib.Path,
  judged: Sequence[str],
) -> dict[str, Any]:
  """Trains, writes adapter and predictions, and returns what `results.json` will hold."""
  started = time.monotonic()
  objective = objective_of(bench, recipe)
  begun = _begun(bench, recipe, first, seed)
  figures, trained = _train(bench, recipe, objective, folder, seed, begun)
  assert objective.asked <= {"validation"}, "the checkpoint is chosen on validation"
  result: dict[str, Any] = {"recipe": name, "title": recipe.title, "seed": seed, **figures}
  result["tuned_parameters"] = lora.count(trained)
  if recipe.adapts:
    adapter = sharding.whole(trained)
    if processes.first():
      bench.models.write_adapter(recipe, adapter, folder / "adapter")
  result |= bench.shards.truncated(recipe)
  for split in judged:
    if split in bench.rows:
      result[split] = objective.judge(split, trained, folder)
  result |= {"answer_seconds": objective.seconds} if objective.seconds else {}
  result |= {"latency": objective.latency} if objective.latency else {}
  result["seconds"] = round(time.monotonic() - started, 1)
  return result


def _begun(bench: Workbench, recipe: Recipe, folder: pathlib.Path, seed: int) -> Any | None:
  """The best tuned parameters of the recipe that it begins with, which is run now if it was not; None: of none."""
  for name, first in first_stage(bench, recipe).items():
    if not processes.by_first((folder / "results.json").exists):
      train_recipe(bench, name, first, folder, seed)
    return restore_best(bench, first, folder)
  return None


def _train(
  bench: Workbench, recipe: Recipe, objective: Objective, folder: pathlib.Path, seed: int, begun: Any | None
) -> tuple[dict[str, Any], Any]:
  """The best step and how many were taken, for the results, and the best trained tree.

  Args:
    begun: what is trained on, where it does not start anew.
  """
  settings, module = bench.settings, bench.models.of(recipe).module
  examples = bench.shards.examples("train", recipe)
  places = examples.sources[drawn(len(examples), settings.train_rows, settings.split_seed)]
  count, size = len(places), min(settings.batch, len(places))
  if size < settings.batch:
    say(f"--batch {settings.batch} is more than the {count} training {objective.unit}: an update takes them all once")
  steps = settings.steps or max(1, math.ceil(settings.epochs * count / size))
  trained, frozen = _parts(bench, recipe, seed, begun)
  config = optimizer_config(settings)
  optimizer, rates = optimizers.optimizer(config), optimizers.learning_rates(config, steps)
  state = init_state(trained, optimizer)
  batches = make_batches(bench, recipe, size, seed, held=microbatch.size((frozen, state, trained)))
  say(
    f"{recipe.title}: {count} {objective.unit}, {steps} steps of {size}, packed into rows of {batches.shape.length} "
    f"tokens; {lora.count(trained):,} of {lora.count(bench.models.params(recipe)):,} parameters are tuned"
  )

  full = recipe.adapter == "full"
  work = loop.Training(
    config=loop.LoopConfig(
      steps=steps,
      validate_every=settings.validate_every or max(1, -(-steps // 4)),
      metric=settings.scores[0],
      patience=settings.patience,
    ),
    advance=make_step(
      for_training(module, settings),
      optimizer,
      "params" if full else "lora",
      seed,
      lies=sharding.lies(state),
      rates=rates,
    ),
    frozen=frozen,
    batches=batches,
    validate=objective.validate,
    names=lambda number: bench.rows["train"][int(places[number])].id,
    keeps_state=not full,
  )
  checkpoints, journal = RunCheckpoints(folder / "checkpoints"), Journal(folder)
  with contextlib.closing(journal), contextlib.closing(checkpoints):
    best, tree = loop.train(work, state, checkpoints, journal)
  return {"best_step": best, "learning_rate": settings.learning_rate, **_told(journal, steps, settings)}, tree


def _parts(bench: Workbench, recipe: Recipe, seed: int, begun: Any | None) -> tuple[Any, Any]:
  """What is trained, new or as begun, and what stays frozen beside it, which full fine-tuning has none of."""
  if recipe.adapter == "full":
    trained, frozen = bench.models.masters(recipe) if begun is None else jax.tree.map(jnp.copy, begun), {}
  else:
    trained = bench.models.new_adapter(recipe, seed) if begun is None else begun
    frozen = bench.models.variables(recipe, None)
  # Bound to where it lies, as what a checkpoint gives back is: the same programs then serve both.
  return jax.device_put(trained, jax.tree.map(lambda leaf: leaf.sharding, trained)), frozen


def _told(journal: Journal, steps: int, settings: Settings) -> dict[str, Any]:
  """How training went: how many steps were taken, and the scores on validation over them."""
  last = journal.records[-1]["step"]
  before = {"before": journal.validation(0)} if settings.by_loss else {}
  curve = [{"step": r["step"], **r["validation"]} for r in journal.records if "validation" in r]
  return {"steps": last, "stopped_early": last < steps, **before, "curve": curve}


def optimizer_config(settings: Settings) -> OptimizerConfig:
  return OptimizerConfig(
    optimizer=settings.optimizer,  # pyright: ignore[reportArgumentType]  checked when it is made
    learning_rate=settings.learning_rate,
    schedule=settings.schedule,  # pyright: ignore[reportArgumentType]  checked when it is made
    warmup=settings.warmup,
    weight_decay=settings.weight_decay,
    clip=settings.clip,
  )
