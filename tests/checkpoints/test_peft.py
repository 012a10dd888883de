"""The written adapter, read as PEFT reads it: names, layout, scale."""

import dataclasses
import json

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.peft import write_adapter
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.models import registry
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.decoder_only import DecoderOnly
from fiat_jax.models.lora import ATTENTION_QUERY_VALUE, LoraConfig

NAMES = {
  "attention": {"query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj"}
  | {"out": "self_attn.o_proj"},
  "ffn": {"gate": "mlp.gate_proj", "up": "mlp.up_proj", "down": "mlp.down_proj"},
}
IDS = tiny.random_ids(20, 2)
WEIGHTS = "adapter_model.safetensors"


def written(folder, params, config):
  """An adapter of random A and B, the file's tensors and the description beside it."""
  adapter = tiny.random_adapter(params, config)
  write_adapter(folder, adapter, DecoderOnly(tiny.CONFIG), config, base="OWNER/NAME")
  assert sorted(path.name for path in folder.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
  return (
    adapter,
    load_file(folder / "adapter_model.safetensors"),
    json.loads((folder / "adapter_config.json").read_text()),
  )


def test_every_matrix_stands_under_peft_s_name_transposed(tmp_path, tiny_model):
  adapter, tensors, _ = written(tmp_path, tiny_model.params, LoraConfig(rank=4, targets=tiny.ALL_LINEAR))
  expected = {}
  for block, names in NAMES.items():
    for ours, theirs in names.items():
      for layer in range(tiny.CONFIG.layers):
        module = f"base_model.model.model.layers.{layer}.{theirs}"
        expected[f"{module}.lora_A.weight"] = adapter["layers"][block][ours]["a"][layer].T
        expected[f"{module}.lora_B.weight"] = adapter["layers"][block][ours]["b"][layer].T
  assert set(tensors) == set(expected)
  for name, tensor in tensors.items():
    assert tensor.dtype == np.float32
    np.testing.assert_array_equal(tensor, expected[name])
  assert tensors["base_model.model.model.layers.0.mlp.down_proj.lora_A.weight"].shape == (4, 48)
  assert tensors["base_model.model.model.layers.0.mlp.down_proj.lora_B.weight"].shape == (32, 4)


def test_the_description_says_what_was_tuned_and_how(tmp_path, tiny_model):
  config = LoraConfig(rank=4, alpha=6.0, dropout=0.1, targets=ATTENTION_QUERY_VALUE)
  _, _, description = written(tmp_path, tiny_model.params, config)
  assert description == {
    "peft_type": "LORA",
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": "OWNER/NAME",
    "r": 4,
    "lora_alpha": 6.0,
    "lora_dropout": 0.1,
    "target_modules": ["q_proj", "v_proj"],
    "bias": "none",
    "use_rslora": False,
    "use_dora": False,
    "fan_in_fan_out": False,
    "inference_mode": True,
  }


@pytest.mark.parametrize("scaling", ["rank", "root_rank"])
def test_peft_reads_the_scale_that_was_tuned_with(tmp_path, tiny_model, scaling):
  """PEFT scales by lora_alpha / r, with use_rslora by lora_alpha / √r (peft/tuners/lora/layer.py, `update_layer`)."""
  config = LoraConfig(rank=9, alpha=6.0, scaling=scaling)
  _, _, description = written(tmp_path, tiny_model.params, config)
  divisor = description["r"] ** 0.5 if description["use_rslora"] else description["r"]
  assert config.scale == description["lora_alpha"] / divisor


@pytest.mark.parametrize("targets", [ATTENTION_QUERY_VALUE, tiny.ALL_LINEAR])
def test_torch_weights_with_the_file_s_delta_give_our_logits(tmp_path, tiny_model, targets):
  """W + (lora_alpha / r) · B · A in [out, in], as PEFT merges, in a checkpoint that is then loaded as any other."""
  config = LoraConfig(rank=4, alpha=6.0, targets=targets)
  adapter, tensors, description = written(tmp_path / "adapter", tiny_model.params, config)
  weights = tiny.hugging_face_tensors(tiny.CONFIG, tiny_model.params)
  for name in [name for name in tensors if ".lora_A." in name]:
    module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
    delta = tensors[name.replace(".lora_A.", ".lora_B.")] @ tensors[name]
    weights[f"{module}.weight"] = weights[f"{module}.weight"] + description["lora_alpha"] / description["r"] * delta
  source = open_checkpoint(tiny.write_checkpoint(tmp_path / "merged", tiny.CONFIG, weights))
  shapes = registry.parameter_shapes(tiny.CONFIG)
  merged = load_params(source, registry.decoder_leaves(tiny.CONFIG), shapes, "float32")

  ours = tiny.logits_of(Decoder(tiny.CONFIG, config), {"params": tiny_model.params, "lora": adapter}, IDS)
  np.testing.assert_allclose(tiny.logits_of(tiny_model.module, {"params": merged}, IDS), ours, atol=2e-4)
  base = tiny.logits_of(tiny_model.module, {"params": tiny_model.params}, IDS)
  assert np.abs(ours - base).max() > 0.1


def test_biases_of_projections_are_no_modules(tmp_path):
  biased = dataclasses.replace(tiny.CONFIG, qkv_bias=True)
  config = LoraConfig(rank=2)
  write_adapter(
    tmp_path, tiny.random_adapter(tiny.random_params(biased), config), DecoderOnly(biased), config, base="x"
  )
  modules = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in load_file(tmp_path / WEIGHTS)}
  assert modules == {"q_proj", "v_proj"}
  assert json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"] == ["q_proj", "v_proj"]
