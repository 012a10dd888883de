"""Every family against PyTorch at random weights: logits, continuations, gradients, names; and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from flax import linen as nn
from golden_script import GOLDEN, golden_script
from safetensors.numpy import load_file, save_file

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.merged import write_hugging_face
from fiat_jax.checkpoints.peft import write_adapter
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.likelihood import label_logprobs
from fiat_jax.decoding.request import Request
from fiat_jax.errors import UserError
from fiat_jax.models import decoder, registry
from fiat_jax.models.config import DecoderConfig
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.decoder_only import DecoderOnly
from fiat_jax.models.families import decoder_config
from fiat_jax.models.lora import LoraConfig

pytestmark = pytest.mark.compiled_quickly

TOLERANCE = 1e-4  # of logits up to 12; measured 1e-5
LORA = LoraConfig(rank=4, alpha=6.0)
PLACES = {"query": "q", "value": "v"}


SCRIPT = golden_script("families")
FAMILIES = list(SCRIPT.CONFIGS)
QUICK = [f if f in ("qwen3", "gemma3") else pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES]
DESCRIBED: dict[str, Any] = json.loads((GOLDEN / "families.json").read_text())


class Loaded(NamedTuple):
  config: DecoderConfig
  params: dict[str, Any]


@functools.cache
def tensors(family: str) -> dict[str, np.ndarray]:
  return SCRIPT.weights(family, DESCRIBED[family]["shapes"])


def read(folder: Path, config: dict[str, Any], weights: dict[str, np.ndarray]) -> Loaded:
  """A Hugging Face folder written and loaded."""
  folder.mkdir(exist_ok=True)
  (folder / "config.json").write_text(json.dumps(config))
  save_file(weights, folder / "model.safetensors")
  source = open_checkpoint(folder)
  ours = decoder_config(source.config, str(folder), "float32")
  return Loaded(ours, load_params(source, registry.decoder_leaves(ours), registry.parameter_shapes(ours), "float32"))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
  folder = tmp_path_factory.mktemp("families")
  return functools.cache(lambda family: read(folder / family, DESCRIBED[family]["config"], tensors(family)))


@pytest.fixture(scope="module")
def arrays():
  return dict(np.load(GOLDEN / "families.npz"))


def packed() -> tuple[np.ndarray, ...]:
  """Both prompts in one row."""
  tokens, positions, segments = np.zeros((3, 1, 80), np.int32)
  start = 0
  for number, ids in enumerate(SCRIPT.prompts()):
    stop = start + len(ids)
    tokens[0, start:stop], positions[0, start:stop], segments[0, start:stop] = ids, range(len(ids)), number + 1
    start = stop
  return tokens, positions, segments


def adapter_of(config: DecoderConfig) -> dict[str, Any]:
  """The adapter that the script filled PEFT's with."""
  widths = {"query": config.heads * config.head_dim, "value": config.kv_heads * config.head_dim}
  attention = {}
  for ours, theirs in PLACES.items():
    shapes = {"A": (LORA.rank, config.width), "B": (widths[ours], LORA.rank)}
    attention[ours] = {
      m.lower(): jnp.asarray(np.stack([SCRIPT.weight(f"{n}.{theirs}.{m}", shape).T for n in range(config.layers)]))
      for m, shape in shapes.items()
    }
  return {"layers": {"attention": attention}}


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_and_gradients_equal_those_of_pytorch(family: str, loaded, arrays):
  """Both prompts are packed into one row, so windows and positions begin anew within it."""
  config, params = loaded(family)
  row, first = packed(), len(SCRIPT.prompts()[0])
  targets = np.asarray(SCRIPT.prompts()[0])[-SCRIPT.TARGETS :]

  @jax.jit
  def compute(adapter):
    def loss(adapter):
      logits: Any = Decoder(config, LORA).apply({"params": params, "lora": adapter}, *row, method="init_all")
      before = logits[0, first - len(targets) - 1 : first - 1]
      return -jnp.mean(jax.nn.log_softmax(before)[np.arange(len(targets)), targets]), logits

    return jax.value_and_grad(loss, has_aux=True)(adapter)

  adapter = adapter_of(config)
  (_, logits), _ = compute(jax.tree.map(jnp.zeros_like, adapter))
  (loss, _), gradient = compute(adapter)
  np.testing.assert_allclose(logits[0, :first], arrays[f"{family}.logits.0"], atol=TOLERANCE, rtol=0)
  rest = arrays[f"{family}.logits.1"]
  np.testing.assert_allclose(logits[0, first : first + len(rest)], rest, atol=TOLERANCE, rtol=0)
  np.testing.assert_allclose(loss, arrays[f"{family}.loss"], atol=1e-5)
  for ours, theirs in PLACES.items():
    for matrix in "AB":
      got = np.asarray(gradient["layers"]["attention"][ours][matrix.lower()]).transpose(0, 2, 1)
      wanted = np.stack([arrays[f"{family}.gradient.{n}.{theirs}.{matrix}"] for n in range(config.layers)])
      np.testing.assert_allclose(got, wanted, atol=TOLERANCE * np.abs(wanted).max(), rtol=0)


@pytest.mark.parametrize("family", QUICK)
def test_continuations_equal_those_of_pytorch(family: str, loaded, arrays):
  """Beside a neighbour, and, where there are windows, with a prefix longer than them computed once."""
  config, params = loaded(family)
  prompt, wanted = arrays[f"{family}.prompt"].tolist(), arrays[f"{family}.greedy"].tolist()
  assert len(set(wanted)) >= 8 and len(prompt) > 12
  requests = [
    Request(tokens=prompt, max_new_tokens=len(wanted)),
    Request(tokens=[*prompt[:18], *SCRIPT.prompts()[0][:7]], max_new_tokens=9),
  ]
  engine = Engine(Decoder(config), decoder.unstack({"params": params}, config.layers), stop_ids=[], slots=2)
  alone = engine.generate(requests)
  assert alone[0].tokens == wanted
  if family in ("qwen2", "gemma3", "smollm3"):
    assert [c.tokens for c in engine.generate(requests, shared=18)] == [c.tokens for c in alone]


@pytest.mark.parametrize("family", ["gemma3_text"])
def test_labels_in_one_row_see_what_each_would_see_alone(family: str, loaded):
  config, params = loaded(family)
  module, prompt = Decoder(config), SCRIPT.prompts()[1]
  labels = [[5, 6, 7], [9], [8, 30, 31, 32, 33, 34, 35, 36, 37, 38]]
  got = label_logprobs(module, decoder.unstack({"params": params}, config.layers), prompt, labels)
  wanted = [tiny.logprobs_of(module, {"params": params}, prompt, label).sum() for label in labels]
  np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_transformers_4_and_5_write_is_read_alike(family: str):
  old, new = SCRIPT.CONFIGS[family], DESCRIBED[family]["config"]
  assert decoder_config(old, "old", "float32") == decoder_config(new, "new", "float32")


def test_the_models_differ_in_what_they_are_here_for():
  """Else the comparisons above would show nothing."""
  shape = {family: decoder_config(SCRIPT.CONFIGS[family], "here", "float32") for family in FAMILIES}
  windows = {family: [kind.window for kind in config.layer_kinds] for family, config in shape.items()}
  assert windows["mistral"] == [12] * 4 and windows["qwen2"] == [None, None, 12, 12]
  assert windows["gemma2"] == [12, None] * 2 and windows["gemma3"] == [12, None] * 2
  assert windows["smollm3"] == [None, None, 12, None]
  assert [kind.rotary is None for kind in shape["smollm3"].layer_kinds] == [False, False, True, False]
  assert {kind.rotary and kind.rotary.theta for kind in shape["gemma3"].kinds} == {50.0, 1000.0}
  divisors = shape["llama3"].kinds[0].rotary.divisors
  assert divisors[0] == 1.0 and divisors[-1] == 8.0 and any(1.0 < d < 8.0 for d in divisors)


def test_a_gemma_3_of_text_and_pictures_that_transformers_4_saved_loads_alike(tmp_path: Path, loaded):
  """Among the tensors of pictures, under the older names, with a configuration that leaves defaults out."""
  renamed = {
    name.replace("model.language_model.", "language_model.model."): values for name, values in tensors("gemma3").items()
  }
  pictures = {"vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight": np.ones((2, 2), np.float32)}
  config, params = read(tmp_path, SCRIPT.CONFIGS["gemma3"], renamed | pictures)
  wanted = loaded("gemma3")
  assert config == wanted.config
  jax.tree.map(np.testing.assert_array_equal, params, wanted.params)


@pytest.mark.parametrize("version", ["4", "5"])
def test_of_a_gemma_3_that_sees_pictures_the_text_model_is_written_and_is_a_whole_one(tmp_path, loaded, version):
  config, params = loaded("gemma3")
  came = SCRIPT.CONFIGS["gemma3"] if version == "4" else DESCRIBED["gemma3"]["config"]
  marks = {"eos_token_id": [1, 2]}  # which the published model names outside of its text part
  write_hugging_face(tmp_path / "out", params, DecoderOnly(config), {**came, **marks})
  source = open_checkpoint(tmp_path / "out")
  described = json.loads((tmp_path / "out" / "config.json").read_text())
  assert described["model_type"] == "gemma3_text" and described["architectures"] == ["Gemma3ForCausalLM"]
  assert described["eos_token_id"] == [1, 2] and not described.keys() & {"vision_config", "text_config"}
  assert all(name.startswith("model.") and "language_model" not in name for name in source.names())
  again = decoder_config(source.config, "out", "float32")
  assert again == dataclasses.replace(config, stem="model")
  written = load_params(source, registry.decoder_leaves(again), registry.parameter_shapes(again), "float32")
  jax.tree.map(np.testing.assert_array_equal, written, params)


def test_gemma_3_4b_s_sparse_configuration_is_filled_in_from_its_family():
  """The published `config.json` names of the text model only what is not Gemma 3's default."""
  text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34}
  text |= {"rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}
  config = decoder_config({"model_type": "gemma3", "text_config": text}, "here", "bfloat16")
  assert (config.heads, config.kv_heads, config.head_dim, config.vocab_size) == (8, 4, 256, 262_208)
  assert config.tied_head and config.norm_epsilon == 1e-6 and config.query_scale == 1 / 16
  near, far = config.distinct_kinds
  assert near.window == 1024 and near.rotary.theta == 1e4 and not near.rotary.divisors
  assert far.window is None and far.rotary.theta == 1e6 and set(far.rotary.divisors) == {8.0}


@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_an_adapter_has_the_names_that_peft_gives_it(tmp_path: Path, family: str, loaded):
  config, _ = loaded(family)
  write_adapter(tmp_path, adapter_of(config), DecoderOnly(config), LORA, base="OWNER/NAME")
  names = DESCRIBED[family]["adapter"]["names"]
  assert sorted(load_file(tmp_path / "adapter_model.safetensors")) == names
  targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
  if family == "qwen3":
    assert targets == ["q_proj", "v_proj"]
  else:  # the pictures' layers have projections of the same names
    modules = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in names}
    assert all(re.fullmatch(targets, module) for module in modules)
    assert not re.fullmatch(targets, "model.vision_tower.encoder.layers.0.self_attn.q_proj")


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_carries_logical_axis_names(family: str):
  config = decoder_config(SCRIPT.CONFIGS[family], "here", "float32")
  ids = jnp.zeros((1, 1), jnp.int32)
  init = lambda key: Decoder(config).init(key, ids, ids, ids, method="init_all")  # noqa: E731
  boxed = jax.eval_shape(init, jax.random.key(0))["params"]
  for box in jax.tree.leaves(boxed, is_leaf=lambda leaf: isinstance(leaf, nn.LogicallyPartitioned)):
    assert isinstance(box, nn.LogicallyPartitioned) and len(box.names) == box.value.ndim
    assert set(box.names) <= {"layers", "vocab", "embed", "heads", "kv", "mlp", "norm"}


@pytest.mark.parametrize(
  ("family", "change", "text"),
  [
    ("llama3", {"model_type": "mixtral"}, "'mixtral'"),
    ("llama3", {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}}, "'yarn'"),
    ("qwen2", {"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "'dynamic'"),
    ("llama3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
    ("llama3", {"hidden_act": "relu"}, "'relu'"),
    ("llama3", {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "original_max_position_embeddings"),
    ("gemma3_text", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("qwen3", {"quantization_config": {"quant_method": "gptq"}}, "quantization_config"),
    ("smollm3", {"layer_types": ["chunked_attention"] * 4}, "'chunked_attention'"),
  ],
)
def test_what_is_not_computed_is_refused_by_name(family: str, change: dict[str, Any], text: str):
  with pytest.raises(UserError) as fault:
    decoder_config(SCRIPT.CONFIGS[family] | change, "the/folder", "float32")
  assert text in str(fault.value) and "the/folder" in str(fault.value) and "\n" not in str(fault.value)


def test_a_tensor_that_has_no_place_is_refused(tmp_path: Path):
  """A bias that the configuration does not speak of would change every logit."""
  extra = {"model.layers.0.self_attn.q_proj.bias": np.ones(64, np.float32)}
  known = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(8, np.float32)}  # older checkpoints keep it
  read(tmp_path, DESCRIBED["qwen3"]["config"], tensors("qwen3") | known)
  with pytest.raises(UserError, match=r"q_proj\.bias has no place"):
    read(tmp_path, DESCRIBED["qwen3"]["config"], tensors("qwen3") | extra)
