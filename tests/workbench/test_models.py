"""Weights in memory: what is trained, what decodes, how long either stays."""

import gc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiat_jax.configuration import configure
from fiat_jax.recipe import Recipe
from fiat_jax.workbench.models import Models

FULL, LORA = Recipe(adapter="full"), Recipe()
BF16, F32 = {jnp.dtype("bfloat16")}, {jnp.dtype("float32")}


@pytest.fixture
def models(tiny_checkpoint):
  found = Models(configure([], [], {"MODEL": str(tiny_checkpoint), "DTYPE": "bfloat16"}))
  found.describe(FULL)
  return found


def dtypes(tree) -> set[np.dtype]:
  return {leaf.dtype for leaf in jax.tree.leaves(tree)}


def test_weights_that_are_all_trained_are_f32_and_decode_in_the_models_dtype(models):
  masters = models.masters(FULL)
  assert dtypes(models.params(FULL)) == BF16 and dtypes(masters) == F32
  assert dtypes(models.shapes(FULL)) == F32, "so is what a checkpoint is read into"
  assert dtypes(models.engine(FULL, masters).weights) == dtypes(models.merged(FULL, masters)) == BF16


def test_what_decodes_is_in_memory_as_long_as_somebody_decodes(models):
  models.params(LORA)
  held = lambda: sum(array.nbytes for array in jax.live_arrays())  # noqa: E731
  gc.collect()  # what other tests left
  before = held()
  engine = models.engine(LORA)
  assert held() > before
  del engine
  gc.collect()
  assert held() == before
