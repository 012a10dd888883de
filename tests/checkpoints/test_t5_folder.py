"""Hugging Face folders of T5: what is missing, left over or of another size is named; what no model uses is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import t5 as small
from safetensors.numpy import load_file, save_file

from fiat_jax.errors import UserError
from fiat_jax.models import pretrained
from fiat_jax.models.lora import LoraConfig

UNUSED = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
  return small.write_model(tmp_path_factory.mktemp("t5"))


def changed(whole: Path, folder: Path, change) -> Path:
  """The folder again, its tensors changed."""
  tensors = load_file(whole / "model.safetensors")
  change(tensors)
  for file in whole.glob("*.json"):
    (folder / file.name).write_bytes(file.read_bytes())
  save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
  return folder


def load(folder: Path):
  return pretrained.load(pretrained.describe(folder, dtype="float32", lora=LoraConfig()))


def test_missing_and_left_over_tensors_of_both_stacks_are_named(whole: Path, tmp_path: Path):
  def change(tensors):
    del tensors["encoder.block.1.layer.0.SelfAttention.q.weight"]
    tensors["decoder.block.1.layer.3.layer_norm.weight"] = np.ones(32, np.float32)
    tensors["lm_head.weight"] = tensors["lm_head.weight"][:-1].copy()

  with pytest.raises(UserError) as fault:
    load(changed(whole, tmp_path, change))
  for text in ("block.1.layer.0.SelfAttention.q.weight is missing", "layer.3.layer_norm.weight has no place in it"):
    assert text in str(fault.value)
  assert "lm_head.weight is [" in str(fault.value)


def test_tensors_outside_the_layers_without_a_place_are_named_and_counted(whole: Path, tmp_path: Path):
  def change(tensors):
    for name in ("dense.bias", "dense.weight", "out_proj.bias", "out_proj.weight"):
      tensors[f"classification_head.{name}"] = np.ones((4, 4), np.float32)

  with pytest.raises(UserError, match=r"classification_head.dense.bias has no place in it; .* and 1 more"):
    load(changed(whole, tmp_path, change))


def test_tensors_that_no_t5_uses_do_no_harm(whole: Path, tmp_path: Path):
  def change(tensors):
    tensors[UNUSED] = np.ones((32, 4), np.float32)
    tensors["encoder.embed_tokens.weight"] = tensors["shared.weight"]

  load(changed(whole, tmp_path, change))


def test_a_vocabulary_that_does_not_fit_the_embedding_is_refused(whole: Path, tmp_path: Path):
  described = json.loads((whole / "config.json").read_text())
  changed(whole, tmp_path, lambda tensors: None)
  (tmp_path / "config.json").write_text(json.dumps(described | {"vocab_size": 64}))
  with pytest.raises(UserError, match="its embedding 64 rows: they do not belong together"):
    load(tmp_path)


def test_float16_is_refused_with_the_reason_and_another_dtype_with_what_there_is(whole: Path):
  with pytest.raises(UserError, match="T5's activations overflow in float16: give --dtype bfloat16 or float32"):
    pretrained.describe(whole, dtype="float16", lora=LoraConfig())
  with pytest.raises(UserError, match="the dtype 'float8' is not supported: give one of float32, bfloat16"):
    pretrained.describe(whole, dtype="float8", lora=LoraConfig())
