"""Hugging Face folders: shards, storage types, configurations, and what is missing or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.errors import UserError

CONFIG = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "rope_theta": 5e5}
TENSORS = {
  "model.embed_tokens.weight": np.linspace(-3, 3, 40, dtype=np.float32).reshape(5, 8),
  "model.layers.0.self_attn.q_proj.weight": np.linspace(-1, 1, 64).astype(ml_dtypes.bfloat16).reshape(8, 8),
  "model.norm.weight": np.linspace(0, 2, 8).astype(np.float16),
}
SHARDS = {
  "model-00001-of-00002.safetensors": list(TENSORS)[:1],
  "model-00002-of-00002.safetensors": list(TENSORS)[1:],
}


def write_folder(folder: Path, sharded: bool = False, **config: Any) -> Path:
  folder.mkdir(exist_ok=True)
  (folder / "config.json").write_text(json.dumps(CONFIG | config))
  if not sharded:
    save_file(TENSORS, folder / "model.safetensors")
    return folder
  for file, names in SHARDS.items():
    save_file({name: TENSORS[name] for name in names}, folder / file)
  weight_map = {name: file for file, names in SHARDS.items() for name in names}
  (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
  return folder


@pytest.mark.parametrize("sharded", [False, True])
def test_every_storage_type_is_read_as_it_is(tmp_path: Path, sharded: bool):
  source = open_checkpoint(write_folder(tmp_path, sharded))
  assert source.names() == sorted(TENSORS)
  for name, values in TENSORS.items():
    read = source.read(name)
    assert read.dtype == values.dtype and source.shape(name) == values.shape
    np.testing.assert_array_equal(read, values)


def test_a_head_that_is_not_there_is_tied(tmp_path: Path):
  assert open_checkpoint(write_folder(tmp_path)).config["tie_word_embeddings"] is True


def test_rope_parameters_of_transformers_5_are_read(tmp_path: Path):
  rope = {"rope_type": "llama3", "rope_theta": 1e6, "factor": 8.0}
  config = open_checkpoint(write_folder(tmp_path, rope_theta=None, rope_parameters=rope)).config
  assert config["rope_theta"] == 1e6 and config["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0}
  rope = {"rope_type": "default", "rope_theta": 1e6}
  assert "rope_scaling" not in open_checkpoint(write_folder(tmp_path, rope_parameters=rope)).config


def test_fingerprint_follows_content(tmp_path: Path):
  first, second = (open_checkpoint(write_folder(tmp_path / name)).fingerprint for name in "ab")
  assert first == second
  assert open_checkpoint(write_folder(tmp_path / "c", rms_norm_eps=1e-5)).fingerprint != first
  assert open_checkpoint(write_folder(tmp_path / "d", sharded=True)).fingerprint != first


def test_a_folder_with_pickles_alone_says_to_convert_them(tmp_path: Path):
  write_folder(tmp_path)
  (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
  with pytest.raises(UserError, match="convert them to safetensors"):
    open_checkpoint(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path):
  (write_folder(tmp_path, sharded=True) / "model-00002-of-00002.safetensors").unlink()
  with pytest.raises(UserError, match="1 of 2 shards are missing, such as model-00002-of-00002"):
    open_checkpoint(tmp_path)


def test_a_shard_outside_the_folder_is_refused(tmp_path: Path):
  index = write_folder(tmp_path / "model", sharded=True) / "model.safetensors.index.json"
  save_file({"x": np.zeros(1, np.float32)}, tmp_path / "other.safetensors")
  index.write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
  with pytest.raises(UserError, match="shards are missing"):
    open_checkpoint(tmp_path / "model")


def test_an_index_that_promises_more_than_the_shards_hold_is_refused(tmp_path: Path):
  index = write_folder(tmp_path, sharded=True) / "model.safetensors.index.json"
  content = json.loads(index.read_text())
  content["weight_map"]["lm_head.weight"] = "model-00001-of-00002.safetensors"
  index.write_text(json.dumps(content))
  with pytest.raises(UserError, match=r"no shard holds 'lm_head\.weight'"):
    open_checkpoint(tmp_path)


@pytest.mark.parametrize(
  "damage",
  [
    lambda whole: whole[:-1],
    lambda whole: whole[:40],
    lambda whole: b"",
    lambda whole: whole[:8] + b"{[" + whole[10:],
    lambda whole: b"\xff" * 8 + whole[8:],
  ],
)
def test_damaged_safetensors_are_refused(tmp_path: Path, damage):
  file = write_folder(tmp_path) / "model.safetensors"
  file.write_bytes(damage(file.read_bytes()))
  with pytest.raises(UserError, match=r"model\.safetensors: damaged or cut short"):
    open_checkpoint(tmp_path)


def test_a_broken_configuration_is_placed(tmp_path: Path):
  (write_folder(tmp_path) / "config.json").write_text('{\n  "model_type": "llama",\n  oops\n}')
  with pytest.raises(UserError, match=r"config\.json:3:"):
    open_checkpoint(tmp_path)


def test_a_folder_that_is_no_checkpoint(tmp_path: Path):
  with pytest.raises(UserError, match=r"config\.json: no such file"):
    open_checkpoint(tmp_path)
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(UserError, match=r"no model\.safetensors"):
    open_checkpoint(tmp_path)
  save_file(TENSORS, tmp_path / "model.safetensors")
  with pytest.raises(UserError, match="lacks model_type"):
    open_checkpoint(tmp_path)


def test_integers_are_not_taken_for_weights(tmp_path: Path):
  save_file({"w": np.ones((2, 2), np.int8)}, write_folder(tmp_path) / "model.safetensors")
  with pytest.raises(UserError, match="stored as I8"):
    open_checkpoint(tmp_path).read("w")
