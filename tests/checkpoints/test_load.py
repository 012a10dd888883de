"""Tensors into parameters: what is there, what is not, in which type, and how often in memory."""

import dataclasses
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.errors import UserError
from fiat_jax.models import registry
from fiat_jax.models.families import decoder_config
from fiat_jax.models.lora import count


def load(folder, tensors, config=tiny.CONFIG, dtype="float32"):
  source = open_checkpoint(tiny.write_checkpoint(folder, config, tensors))
  config = decoder_config(source.config, str(folder), dtype)
  return load_params(source, registry.decoder_leaves(config), registry.parameter_shapes(config), dtype)


@pytest.fixture
def tensors(tiny_model):
  return tiny.hugging_face_tensors(tiny.CONFIG, tiny_model.params)


def test_a_checkpoint_written_from_parameters_loads_as_them(tmp_path, tensors, tiny_model):
  jax.tree.map(np.testing.assert_array_equal, load(tmp_path, tensors), tiny_model.params)


def test_a_tied_head_needs_no_tensor(tmp_path, tensors, tiny_model):
  del tensors["lm_head.weight"]
  params = load(tmp_path, tensors, dataclasses.replace(tiny.CONFIG, tied_head=True))
  assert "head" not in params
  np.testing.assert_array_equal(params["embedding"], tiny_model.params["embedding"])


def test_bfloat16_is_float32_rounded_once(tmp_path, tensors, tiny_model):
  params = load(tmp_path, tensors, dtype="bfloat16")
  rounded = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), tiny_model.params)
  assert all(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(params))
  jax.tree.map(np.testing.assert_array_equal, params, rounded)


def test_what_is_missing_or_misshapen_is_named_with_the_file(tmp_path, tensors):
  del tensors["model.norm.weight"]
  name = "model.layers.1.self_attn.k_proj.weight"
  tensors[name] = np.ascontiguousarray(tensors[name].T)
  with pytest.raises(UserError) as fault:
    load(tmp_path, tensors)
  for text in (str(tmp_path), "model.norm.weight is missing", f"{name} is [32, 16], not [16, 32]"):
    assert text in str(fault.value)
  assert "more" not in str(fault.value)


def test_only_the_first_faults_are_named_and_the_rest_counted(tmp_path, tensors):
  kept = {name: tensor for name, tensor in tensors.items() if ".mlp." not in name}
  with pytest.raises(UserError, match="and 6 more") as fault:
    load(tmp_path, kept)
  assert str(fault.value).count("is missing") == 3


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_of_a_quantized_kernel_a_device_holds_no_more_than_a_layer_before_all_are_read(tmp_path, kind):
  config = dataclasses.replace(tiny.CONFIG, width=64, layers=6, ffn_width=128)
  folder = tiny.write_checkpoint(tmp_path, config, tiny.hugging_face_tensors(config, tiny.random_params(config)))
  source, held = open_checkpoint(folder), {}
  read = source.read

  def reads(name):
    held[name] = sum(array.nbytes for array in jax.live_arrays())
    return read(name)

  source.read = reads
  load_params(source, registry.decoder_leaves(config), registry.parameter_shapes(config), "float32", kernels=kind)
  name = "model.layers.{}.mlp.up_proj.weight"
  layer = 64 * 128 + 4 * 2 * 128  # levels and scales
  assert held[name.format(5)] - held[name.format(0)] <= 2 * layer  # of 4 bits a second is made on the way to the host


def test_no_more_than_one_leaf_is_held_twice(tmp_path):
  config = dataclasses.replace(tiny.CONFIG, width=128, layers=12, ffn_width=256)
  tensors = tiny.hugging_face_tensors(config, tiny.random_params(config))
  load(tmp_path, tensors, config)  # what is allocated once for all
  tracemalloc.start()
  try:
    params = load(tmp_path, tensors, config)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  largest = max(leaf.nbytes for leaf in jax.tree.leaves(params))
  assert peak < 4 * count(params) + largest + (1 << 20)
