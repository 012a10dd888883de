"""A decoder of random weights, small enough to compute in milliseconds, and what tests ask of it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import save_file

from fiat_jax.data.batches import Shard
from fiat_jax.data.packing import Example
from fiat_jax.models import registry
from fiat_jax.models.config import DecoderConfig
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.lora import LoraConfig, init_adapter

CONFIG = DecoderConfig(vocab_size=97, width=32, layers=3, heads=4, kv_heads=2, head_dim=8, ffn_width=48, max_length=256)
ALL_LINEAR = r"layers/.*"


def random_params(config: DecoderConfig = CONFIG, seed: int = 0) -> dict[str, Any]:
  """Parameters of a decoder."""
  return random_leaves(registry.parameter_shapes(config), seed)


def random_leaves(shapes: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
  """Kernels that keep the variance, norm scales about one, an embedding that makes confident predictions."""
  generator = np.random.default_rng(seed)

  def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
    name = path[-1].key
    if name == "scale":
      return jnp.asarray(generator.uniform(0.5, 1.5, leaf.shape), jnp.float32)
    deviation = 0.5 if name in ("embedding", "bias") else leaf.shape[-2] ** -0.5
    return jnp.asarray(generator.normal(0, deviation, leaf.shape), jnp.float32)

  return jax.tree_util.tree_map_with_path(fill, shapes)


def random_adapter(params: Mapping[str, Any], config: LoraConfig, seed: int = 0) -> dict[str, Any]:
  """An adapter with A and B random: while B is zero, A has no gradient and nothing shows."""
  adapter = init_adapter(jax.random.key(seed), params, config)
  generator = np.random.default_rng(seed)
  return jax.tree.map(lambda leaf: jnp.asarray(generator.normal(0, 0.2, leaf.shape), jnp.float32), adapter)


def rows_of(sequences: Sequence[Sequence[int]], length: int, padding: int = 0) -> tuple[np.ndarray, ...]:
  """Tokens, positions and segments [B, length] of one sequence a row."""
  shape = (len(sequences), length)
  tokens, positions, segments = np.full(shape, padding, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.int32)
  for row, ids in enumerate(sequences):
    tokens[row, : len(ids)], positions[row, : len(ids)], segments[row, : len(ids)] = ids, np.arange(len(ids)), 1
  return tokens, positions, segments


@functools.partial(jax.jit, static_argnums=0)
def forward(module: Decoder, variables: Any, tokens: Any, positions: Any, segments: Any) -> jax.Array:
  """Logits [B, S, V] over the training path."""
  return module.apply(variables, tokens, positions, segments, method="init_all")


def logits_of(module: Decoder, variables: Any, ids: Sequence[int], length: int = 64) -> np.ndarray:
  """Logits [S, V] of one sequence alone, over the training path."""
  return np.asarray(forward(module, variables, *rows_of([ids], length)))[0, : len(ids)]


def logprobs_of(module: Decoder, variables: Any, prompt: Sequence[int], continuation: Sequence[int]) -> np.ndarray:
  """Log P of each token of a continuation, in float64, over the training path."""
  logits = logits_of(module, variables, [*prompt, *continuation][:-1]).astype(np.float64)[len(prompt) - 1 :]
  return logits[np.arange(len(continuation)), list(continuation)] - np.logaddexp.reduce(logits, axis=-1)


def random_ids(count: int, seed: int, vocab_size: int = CONFIG.vocab_size) -> list[int]:
  return np.random.default_rng(seed).integers(0, vocab_size, count).tolist()


def random_examples(lengths: Sequence[tuple[int, int]], seed: int = 0) -> list[Example]:
  """Examples of so many prompt and target ids."""
  generator = np.random.default_rng(seed)
  ids = lambda n: generator.integers(0, CONFIG.vocab_size, n).astype(np.int32)  # noqa: E731
  return [Example(ids(prompt), ids(target), row) for row, (prompt, target) in enumerate(lengths)]


def write_shard(folder: Path, examples: Sequence[Example]) -> Shard:
  """The examples as `data/tokenise.py` keeps them."""
  folder.mkdir(parents=True, exist_ok=True)
  for name in ("inputs", "targets"):
    ids = [getattr(example, name) for example in examples]
    np.save(folder / f"{name}.npy", np.concatenate(ids))
    np.save(folder / f"{name}_ends.npy", np.cumsum([len(row) for row in ids]))
  return Shard(folder)


def hugging_face_tensors(config: DecoderConfig, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The parameters under Hugging Face's names, linear layers as [out, in]."""
  tensors = {}
  for leaf in registry.decoder_leaves(config):
    values: Any = params
    for part in leaf.path:
      values = values[part]
    for number in range(config.layers) if leaf.stacked else (None,):
      tensor = np.asarray(values if number is None else values[number])
      tensors[leaf.source.format(number)] = np.ascontiguousarray(tensor.T if leaf.transposed else tensor)
  return tensors


def write_checkpoint(folder: Path, config: DecoderConfig, tensors: Mapping[str, np.ndarray]) -> Path:
  """A Hugging Face folder of the Llama architecture."""
  folder.mkdir(parents=True, exist_ok=True)
  description = {
    "model_type": "llama",
    "vocab_size": config.vocab_size,
    "hidden_size": config.width,
    "num_hidden_layers": config.layers,
    "num_attention_heads": config.heads,
    "num_key_value_heads": config.kv_heads,
    "head_dim": config.head_dim,
    "intermediate_size": config.ffn_width,
    "max_position_embeddings": config.max_length,
    "rope_theta": 10_000.0,
    "rms_norm_eps": config.norm_epsilon,
    "tie_word_embeddings": config.tied_head,
  }
  (folder / "config.json").write_text(json.dumps(description))
  save_file(dict(tensors), folder / "model.safetensors", metadata={"format": "pt"})
  return folder
