"""A merged model goes back where it came from: Hugging Face folders of both families, and T5X's own form."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import t5 as small
import tiny

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.merged import write_hugging_face
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.checkpoints.t5x import write_t5x
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models.adapters import merge
from fiat_jax.models.decoder_only import DecoderOnly
from fiat_jax.models.family import family_of, module_for
from fiat_jax.models.lora import LoraConfig


def read(folder: Path, dtype: str = "float32"):
  """Module and parameters of a checkpoint of any kind."""
  source = open_checkpoint(folder)
  module = module_for(source.config, str(folder), dtype)
  family = family_of(module)
  return module, load_params(source, family.leaves(source.naming), family.shapes(), dtype)


def assert_same(got, want) -> None:
  jax.tree.map(np.testing.assert_array_equal, got, want)


@pytest.mark.parametrize("tied", [False, True])
def test_a_t5_is_read_again_bit_for_bit_with_its_tokenizer(tmp_path: Path, tied: bool):
  came = small.write_model(tmp_path / "came", tie_word_embeddings=tied)
  module, params = read(came)
  description = json.loads((came / "config.json").read_text())
  write_hugging_face(tmp_path / "out", params, family_of(module), description, Tokenizer.load(came))
  again, written = read(tmp_path / "out")
  assert again == module and module.config.tied_head == tied
  assert_same(written, params)
  assert json.loads((tmp_path / "out" / "config.json").read_text()) == description | {"dtype": "float32"}
  assert Tokenizer.load(tmp_path / "out").fingerprint == Tokenizer.load(came).fingerprint
  with pytest.raises(UserError, match="is there already"):
    write_hugging_face(tmp_path / "out", params, family_of(module), description)


def test_from_t5x_to_hugging_face_and_back_nothing_changes(tmp_path: Path):
  module, params = read(small.write_model(tmp_path / "came"), "bfloat16")
  write_t5x(tmp_path / "t5x", params, module.config)
  described, from_t5x = open_checkpoint(tmp_path / "t5x").config, read(tmp_path / "t5x", "bfloat16")[1]
  write_hugging_face(tmp_path / "out", from_t5x, family_of(module), described)
  assert json.loads((tmp_path / "out" / "config.json").read_text())["dtype"] == "bfloat16"
  assert_same(read(tmp_path / "out", "bfloat16")[1], params)


def test_a_big_model_is_written_in_shards(tmp_path: Path):
  came = small.write_model(tmp_path / "came")
  module, params = read(came)
  description = json.loads((came / "config.json").read_text())
  write_hugging_face(tmp_path / "out", params, family_of(module), description, shard_bytes=40_000)
  files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
  assert len(files) > 2 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
  assert all(path.stat().st_size < 60_000 for path in (tmp_path / "out").glob("*.safetensors"))
  assert_same(read(tmp_path / "out")[1], params)


def test_a_merged_adapter_gives_the_adapted_logits(tmp_path: Path, tiny_model):
  config = LoraConfig(rank=4, alpha=6.0)
  adapter = tiny.random_adapter(tiny_model.params, config)
  came = tiny.write_checkpoint(
    tmp_path / "came", tiny.CONFIG, tiny.hugging_face_tensors(tiny.CONFIG, tiny_model.params)
  )
  description = json.loads((came / "config.json").read_text())
  merged = merge(tiny_model.params, adapter, config)
  write_hugging_face(tmp_path / "out", merged, DecoderOnly(tiny.CONFIG), description)
  _, params = read(tmp_path / "out")
  ids = tiny.random_ids(20, 1)
  ours = tiny.logits_of(tiny_model.module.clone(lora=config), {"params": tiny_model.params, "lora": adapter}, ids)
  np.testing.assert_allclose(tiny.logits_of(tiny_model.module, {"params": params}, ids), ours, atol=2e-4)
  assert jnp.abs(ours).max() > 1
