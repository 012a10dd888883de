"""Checkpoints straight into their shards, and a run's checkpoint onto another mesh."""

import dataclasses
import tracemalloc

import meshes
import numpy as np
import pytest
import tiny

from fiat_jax.checkpoints import load
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.models import registry
from fiat_jax.models.config import DecoderConfig

pytestmark = pytest.mark.compiled_quickly

CONFIG = DecoderConfig(vocab_size=96, width=32, layers=3, heads=8, kv_heads=4, head_dim=8, ffn_width=48, max_length=256)


def test_each_device_gets_its_part_of_every_leaf(tmp_path):
  tensors = tiny.hugging_face_tensors(CONFIG, tiny.random_params(CONFIG))
  folder = str(tiny.write_checkpoint(tmp_path / "model", CONFIG, tensors))
  shares = {None: 1.0, "data=8": 1.0, "fsdp=8": 1 / 8, "data=2,tensor=4": 1 / 4, "data=2,fsdp=2,tensor=2": 1 / 4}
  fault, fine, one, *others = meshes.run(
    [["refused", "tensor=4"], ["refused", "fsdp=4,tensor=2"], *(["loaded", folder, "", shape] for shape in shares)]
  )
  for found, share in zip(others, list(shares.values())[1:], strict=True):
    assert found["sum"] == pytest.approx(one["sum"], rel=1e-4)
    assert share <= found["share"] < share + 0.05  # norms are whole everywhere
  told = (
    "--mesh tensor=4: the model's heads, 6, cannot be dealt to 4 devices; tensor=1, 2 or 3 can, where the mesh allows"
  )
  assert not fine and fault.startswith(told)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_so_does_it_of_quantized_kernels(tmp_path, kind):
  config = dataclasses.replace(CONFIG, width=512, ffn_width=512)  # eight blocks of inputs
  tensors = tiny.hugging_face_tensors(config, tiny.random_params(config))
  folder = str(tiny.write_checkpoint(tmp_path / "model", config, tensors))
  shares = {None: 1.0, "fsdp=8": 1 / 8, "data=2,fsdp=2,tensor=2": 1 / 4}
  one, *others = meshes.run([["loaded", folder, kind, shape] for shape in shares])
  for found, share in zip(others, list(shares.values())[1:], strict=True):
    assert found["sum"] == pytest.approx(one["sum"], rel=1e-4)
    assert share <= found["share"] < share + 0.05


def test_of_a_part_no_more_is_held_than_that_and_one_tensor(tmp_path):
  config = dataclasses.replace(CONFIG, width=256, layers=8)
  params = tiny.random_params(config)
  source = open_checkpoint(tiny.write_checkpoint(tmp_path / "model", config, tiny.hugging_face_tensors(config, params)))
  leaf = next(leaf for leaf in registry.decoder_leaves(config) if leaf.path[-2:] == ("gate", "kernel"))
  part = (slice(None), slice(64, 96), slice(None))
  tracemalloc.start()
  (read,) = load._read(source, leaf, (8, 256, 48), "float32", [part])
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  np.testing.assert_array_equal(read, np.asarray(params["layers"]["ffn"]["gate"]["kernel"])[part])
  assert peak < read.nbytes + 2 * 256 * 48 * 4 + 20_000 < 8 * 256 * 48 * 4


@pytest.mark.slow
def test_a_run_goes_on_over_another_mesh():
  one, *others = meshes.run(
    [
      ["resumed", "decoder", None, None],
      ["resumed", "decoder", "fsdp=8", "data=2,tensor=4"],
      ["resumed", "decoder", "data=4,fsdp=2", None],
    ]
  )
  for losses in others:
    np.testing.assert_allclose(losses, one, rtol=0, atol=1e-5)
