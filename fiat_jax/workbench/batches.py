"""The training rows of a recipe in microbatches, of the size that was asked for or is estimated to fit."""

from __future__ import annotations

import numpy as np

from fiat_jax import sharding
from fiat_jax.data.batches import Batches, Examples, Subset, choose_shape, drawn, longest_size
from fiat_jax.data.pairs import packing_of
from fiat_jax.data.prompted import prompted
from fiat_jax.recipe import Recipe
from fiat_jax.training import microbatch
from fiat_jax.workbench import Workbench, without_reasoning


def make_batches(bench: Workbench, recipe: Recipe, size: int, seed: int, held: int) -> Batches:
  """The training rows in microbatches of the size that was asked for, or is estimated to fit beside `held` bytes."""
  settings, shard = bench.settings, bench.shards.examples("train", recipe)
  dropout = settings.reasoning_dropout if recipe.reasoning else 0.0
  short = bench.shards.of("train", without_reasoning(recipe)) if dropout else None
  explained = bench.shards.explained(recipe) if recipe.distils else None
  count = bench.models.virtual(recipe)
  shard = prompted(shard, count)
  short, explained = short and prompted(short, count), explained and prompted(explained, count)
  family = bench.models.of(recipe).family
  packing = packing_of(family.start_id)
  tokens = settings.microbatch_tokens or microbatch.tokens_that_fit(
    family, longest_size(packing, shard, short, explained), held, settings.remat
  )
  parts = sharding.ways("batch")
  shape = choose_shape(shard, tokens, size, short, packing, explained, parts)
  learned: Examples = shard  # the shape is that of all rows: runs on fewer share their compiled step
  if settings.train_rows:
    numbers = drawn(len(shard), settings.train_rows, settings.split_seed)
    learned, short, explained = Subset(shard, numbers), _some(short, numbers), _some(explained, numbers)
  return Batches(
    learned,
    size=size,
    seed=seed,
    shape=shape,
    short=short,
    dropout=dropout,
    packing=packing,
    explained=explained,
    parts=parts,
  )


def _some(examples: Examples | None, numbers: np.ndarray) -> Examples | None:
  return Subset(examples, numbers) if examples else None
