"""GGUF checkpoints: values, layout, and files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.errors import UserError
from fiat_jax.models.families import decoder_config

HEADS, KV_HEADS, HEAD_DIM, WIDTH, FFN, VOCABULARY = 2, 1, 16, 32, 64, 11


def weights(seed: int = 0) -> dict[str, np.ndarray]:
  """One layer's tensors by GGUF name, query and key rows in Hugging Face's order."""
  shapes = {
    "token_embd.weight": (VOCABULARY, WIDTH),
    "output_norm.weight": (WIDTH,),
    "blk.0.attn_norm.weight": (WIDTH,),
    "blk.0.attn_q.weight": (HEADS * HEAD_DIM, WIDTH),
    "blk.0.attn_k.weight": (KV_HEADS * HEAD_DIM, WIDTH),
    "blk.0.attn_v.weight": (KV_HEADS * HEAD_DIM, WIDTH),
    "blk.0.attn_output.weight": (WIDTH, HEADS * HEAD_DIM),
    "blk.0.ffn_norm.weight": (WIDTH,),
    "blk.0.ffn_gate.weight": (FFN, WIDTH),
    "blk.0.ffn_up.weight": (FFN, WIDTH),
    "blk.0.ffn_down.weight": (WIDTH, FFN),
  }
  generator = np.random.default_rng(seed)
  return {name: generator.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def interleaved(rows: np.ndarray, heads: int) -> np.ndarray:
  """Rows as llama.cpp wants them: within each head, row i of the first half is followed by row i of the second."""
  half = rows.shape[0] // heads // 2
  order = [head * 2 * half + part * half + i for head in range(heads) for i in range(half) for part in (0, 1)]
  return rows[order]


def write_gguf(
  path: Path,
  tensors: dict[str, np.ndarray],
  architecture: str = "llama",
  kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
) -> Path:
  writer = gguf.GGUFWriter(path, architecture)
  writer.add_block_count(1)
  writer.add_context_length(128)
  writer.add_embedding_length(WIDTH)
  writer.add_feed_forward_length(FFN)
  writer.add_head_count(HEADS)
  writer.add_head_count_kv(KV_HEADS)
  writer.add_key_length(HEAD_DIM)
  writer.add_layer_norm_rms_eps(1e-6)
  writer.add_rope_freq_base(5e5)
  writer.add_array("tokenizer.ggml.tokens", [f"token{i}" for i in range(VOCABULARY)])
  for name, values in tensors.items():
    if values.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
      writer.add_tensor(name, values)
    else:
      writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path


def read_all(path: Path) -> dict[str, np.ndarray]:
  source = open_checkpoint(path)
  return {name: source.read(name) for name in source.names()}


def test_smollm2_weights_equal_those_of_transformers(smollm2_path: Path, golden: Path):
  source = open_checkpoint(smollm2_path)
  with np.load(golden / "smollm2_logits.npz") as recorded:
    for key in (key for key in recorded.files if key.startswith("weight.")):
      name = key.removeprefix("weight.")
      values = source.read(name)
      assert values.dtype == np.float32 and values.shape == source.shape(name)
      values = values[::96] if "embed" in name else values
      np.testing.assert_array_equal(values[:, :4] if values.ndim == 2 else values, recorded[key], name)


def test_smollm2_configuration(smollm2_path: Path):
  source = open_checkpoint(smollm2_path)
  expected = {
    "model_type": "llama",
    "hidden_size": 576,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "intermediate_size": 1536,
    "vocab_size": 49152,
    "rope_theta": 100000.0,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
  }
  assert {key: source.config[key] for key in expected} == expected
  assert len(source.names()) == 272 and "lm_head.weight" not in source.names()


def test_query_and_key_rows_come_back_in_rotary_halves(tmp_path: Path):
  tensors = weights()
  stored = tensors | {
    "blk.0.attn_q.weight": interleaved(tensors["blk.0.attn_q.weight"], HEADS),
    "blk.0.attn_k.weight": interleaved(tensors["blk.0.attn_k.weight"], KV_HEADS),
  }
  read = read_all(write_gguf(tmp_path / "llama.gguf", stored))
  for name in ("q", "k", "v"):
    expected = tensors[f"blk.0.attn_{name}.weight"]
    np.testing.assert_array_equal(read[f"model.layers.0.self_attn.{name}_proj.weight"], expected)


def test_qwen2_rows_are_left_as_they_are_and_biases_are_named(tmp_path: Path):
  bias = np.arange(HEADS * HEAD_DIM, dtype=np.float32)
  source = open_checkpoint(write_gguf(tmp_path / "q.gguf", weights() | {"blk.0.attn_q.bias": bias}, "qwen2"))
  assert source.config["model_type"] == "qwen2" and source.config["attention_bias"]
  np.testing.assert_array_equal(source.read("model.layers.0.self_attn.q_proj.bias"), bias)
  np.testing.assert_array_equal(source.read("model.layers.0.self_attn.q_proj.weight"), weights()["blk.0.attn_q.weight"])


@pytest.mark.parametrize("kind, error", [("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 3e-2), ("Q4_0", 0.6)])
def test_quantized_tensors_are_undone(tmp_path: Path, kind: str, error: float):
  path = write_gguf(tmp_path / "m.gguf", weights(), "qwen2", gguf.GGMLQuantizationType[kind])
  read = read_all(path)["model.layers.0.mlp.down_proj.weight"]
  assert read.dtype == np.float32
  np.testing.assert_allclose(read, weights()["blk.0.ffn_down.weight"], atol=error)


def test_an_output_tensor_is_an_untied_head(tmp_path: Path):
  head = np.ones((VOCABULARY, WIDTH), np.float32)
  source = open_checkpoint(write_gguf(tmp_path / "m.gguf", weights() | {"output.weight": head}))
  assert source.config["tie_word_embeddings"] is False
  np.testing.assert_array_equal(source.read("lm_head.weight"), head)


def test_fingerprint_follows_the_weights_not_the_name(tmp_path: Path):
  prints = [
    open_checkpoint(write_gguf(tmp_path / name, weights(seed))).fingerprint
    for name, seed in (("a.gguf", 0), ("b.gguf", 0), ("c.gguf", 1))
  ]
  assert prints[0] == prints[1] != prints[2]


def test_an_unknown_architecture_is_named(tmp_path: Path):
  with pytest.raises(UserError, match=r"m\.gguf:.*'mamba' is not supported"):
    open_checkpoint(write_gguf(tmp_path / "m.gguf", weights(), "mamba"))


def test_a_tensor_that_would_be_ignored_is_refused(tmp_path: Path):
  with pytest.raises(UserError, match=r"ffn_gate_exps\.weight"):
    open_checkpoint(write_gguf(tmp_path / "m.gguf", weights() | {"blk.0.ffn_gate_exps.weight": np.ones(4, np.float32)}))


def test_a_missing_tensor_is_named(tmp_path: Path):
  with pytest.raises(UserError, match=r"no tensor 'lm_head\.weight'"):
    open_checkpoint(write_gguf(tmp_path / "m.gguf", weights())).read("lm_head.weight")


def test_what_is_not_a_checkpoint_is_told_apart(tmp_path: Path):
  with pytest.raises(UserError, match="no such checkpoint"):
    open_checkpoint(tmp_path / "none.gguf")
  (tmp_path / "page.gguf").write_text("<html>not found</html>")
  with pytest.raises(UserError, match="not a GGUF file"):
    open_checkpoint(tmp_path / "page.gguf")
  (tmp_path / "model.zip").write_bytes(b"PK")
  with pytest.raises(UserError, match="not a checkpoint"):
    open_checkpoint(tmp_path / "model.zip")


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
  return write_gguf(tmp_path_factory.mktemp("gguf") / "small.gguf", weights())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused_at_opening(small_file: Path, tmp_path: Path, share: float):
  whole = small_file.read_bytes()
  # The writer pads the last tensor: what is cut must be more than padding.
  (tmp_path / "cut.gguf").write_bytes(whole[: int(share * (len(whole) - gguf.GGUF_DEFAULT_ALIGNMENT))])
  with pytest.raises(UserError):
    open_checkpoint(tmp_path / "cut.gguf")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 1500), value=st.integers(0, 255))
def test_a_flipped_header_byte_gives_an_error_that_says_so_or_nothing(
  small_file: Path, tmp_path: Path, position: int, value: int
):
  damaged = bytearray(small_file.read_bytes())
  damaged[position] = value
  (tmp_path / "damaged.gguf").write_bytes(damaged)
  try:
    read_all(tmp_path / "damaged.gguf")
  except UserError as error:
    assert "damaged.gguf" in str(error)


def family_gguf(folder: Path, architecture: gguf.MODEL_ARCH, config: dict, seed: int = 0):
  """A file as llama.cpp converts a Hugging Face model to, by the tensor names of the `gguf` package; and the model."""
  shape = decoder_config(config, "here", "float32")
  params = tiny.random_params(shape, seed)
  wanted = tiny.hugging_face_tensors(shape, params)
  names = gguf.get_tensor_name_map(architecture, shape.layers)
  path, permuted = folder / "model.gguf", architecture in (gguf.MODEL_ARCH.LLAMA, gguf.MODEL_ARCH.SMOLLM3)
  writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
  writer.add_block_count(shape.layers)
  writer.add_context_length(shape.max_length)
  writer.add_embedding_length(shape.width)
  writer.add_feed_forward_length(shape.ffn_width)
  writer.add_head_count(shape.heads)
  writer.add_head_count_kv(shape.kv_heads)
  writer.add_key_length(shape.head_dim)
  writer.add_layer_norm_rms_eps(shape.norm_epsilon)
  writer.add_rope_freq_base(config["rope_theta"])
  if "sliding_window" in config:
    writer.add_sliding_window(config["sliding_window"])
  if scaling := config.get("rope_scaling"):
    writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
    writer.add_rope_scaling_factor(scaling["factor"])
  for name, values in wanted.items():
    stored = values
    if permuted and name.endswith(("q_proj.weight", "k_proj.weight")):
      stored = interleaved(values, shape.heads if "q_proj" in name else shape.kv_heads)
    if architecture == gguf.MODEL_ARCH.GEMMA3 and name.endswith("norm.weight"):
      stored = values + 1
    writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), stored)
  writer.write_header_to_file()
  writer.write_kv_data_to_file()
  writer.write_tensors_to_file()
  writer.close()
  return path, shape, wanted


PLAIN = {
  "vocab_size": VOCABULARY,
  "hidden_size": WIDTH,
  "intermediate_size": FFN,
  "num_attention_heads": 4,
  "num_key_value_heads": 2,
  "num_hidden_layers": 7,
  "head_dim": HEAD_DIM,
  "max_position_embeddings": 128,
  "rms_norm_eps": 1e-6,
  "rope_theta": 5e5,
  "tie_word_embeddings": True,
}
FAMILIES = {
  gguf.MODEL_ARCH.LLAMA: {"model_type": "llama", "tie_word_embeddings": False},
  gguf.MODEL_ARCH.QWEN2: {"model_type": "qwen2"},
  gguf.MODEL_ARCH.QWEN3: {"model_type": "qwen3"},
  gguf.MODEL_ARCH.SMOLLM3: {"model_type": "smollm3"},
  gguf.MODEL_ARCH.GEMMA3: {"model_type": "gemma3_text", "sliding_window": 12, "query_pre_attn_scalar": HEAD_DIM}
  | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
}


@pytest.mark.parametrize("architecture", FAMILIES, ids=lambda architecture: architecture.name)
def test_a_converted_model_has_the_configuration_and_tensors_that_it_was_converted_from(tmp_path: Path, architecture):
  path, shape, wanted = family_gguf(tmp_path, architecture, PLAIN | FAMILIES[architecture])
  source = open_checkpoint(path)
  assert decoder_config(source.config, "here", "float32") == shape
  assert source.names() == sorted(wanted)
  for name, values in wanted.items():
    np.testing.assert_allclose(source.read(name), values, atol=3e-7, err_msg=name)  # 1 + w - 1 is not quite w


def test_rotary_divisors_of_llama_3_1_are_read(tmp_path: Path):
  divisors = np.asarray([1, 1, 1, 1.5, 4, 8, 8, 8], np.float32)
  source = open_checkpoint(write_gguf(tmp_path / "l.gguf", weights() | {"rope_freqs.weight": divisors}))
  assert "rope_freqs.weight" not in source.names()
  (kind,) = decoder_config(source.config, "here", "float32").kinds
  assert kind.rotary is not None and kind.rotary.divisors == tuple(divisors)
