"""From a T5's configuration to ours: what is refused and why, and which heads are tied."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import t5 as small
from safetensors.numpy import save_file

from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.errors import UserError
from fiat_jax.models.t5_registry import t5_config


def config_of(case: str = "t5_1_1", **changes):
  settings = {**small.script().CASES[case], **changes}
  return t5_config({key: value for key, value in settings.items() if value is not None}, "folder", "float32")


def test_every_size_comes_from_its_own_key():
  config = config_of("mt5", num_layers=5, num_decoder_layers=4)
  assert (config.encoder_layers, config.decoder_layers) == (5, 4)
  assert (config.width, config.heads, config.head_dim, config.ffn_width) == (32, 4, 12, 56)
  assert (config.vocab_size, config.buckets, config.max_distance) == (131, 16, 50)
  assert config_of(num_decoder_layers=None).decoder_layers == 3


@pytest.mark.parametrize(
  ("changes", "text"),
  [
    ({"model_type": "umt5"}, "relative bias of its own"),
    ({"model_type": "longt5"}, "'longt5'; there is t5, mt5"),
    ({"feed_forward_proj": "gated-silu"}, "'gated-silu'; there is relu, gated-gelu"),
    ({"d_kv": None}, "lacks 'd_kv'"),
  ],
)
def test_what_is_not_computed_is_refused_by_name(changes, text):
  with pytest.raises(UserError) as fault:
    config_of(**changes)
  assert text in str(fault.value) and str(fault.value).startswith("folder: ")


def test_float16_is_refused_with_the_reason():
  with pytest.raises(UserError, match="overflow in float16: give --dtype bfloat16 or float32"):
    t5_config(small.script().CASES["t5_1_1"], "folder", "float16")


def test_which_heads_are_tied():
  """T5 1.0's are; transformers 5 says of every T5 that it saves that it is, and of what it was in another key."""
  assert config_of("t5_1_0").tied_head and config_of("t5_1_0", tie_word_embeddings=None).tied_head
  assert not config_of("t5_1_1").tied_head
  assert not config_of("t5_1_1", tie_word_embeddings=True, scale_decoder_outputs=False).tied_head
  assert not config_of("mt5", tie_word_embeddings=True).tied_head


def test_a_tied_head_that_is_kept_twice_is_tied(tmp_path: Path):
  """T5 1.0's published configurations do not speak of it."""
  config = {key: value for key, value in small.script().CASES["t5_1_0"].items() if key != "tie_word_embeddings"}
  tensors = small.script().tensors("t5_1_0")
  (tmp_path / "config.json").write_text(json.dumps(config))
  save_file(tensors | {"lm_head.weight": np.copy(tensors["shared.weight"])}, tmp_path / "model.safetensors")
  assert t5_config(open_checkpoint(tmp_path).config, str(tmp_path), "float32").tied_head
  module, params = small.load(tmp_path)
  assert module.config.tied_head and "head" not in params
  save_file(tensors | {"lm_head.weight": 2 * tensors["shared.weight"]}, tmp_path / "model.safetensors")
  with pytest.raises(UserError, match=r"lm_head\.weight is not shared\.weight: set tie_word_embeddings to false"):
    small.load(tmp_path)
