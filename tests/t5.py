"""The small random encoder–decoders of `tests/golden/make_t5.py` as ours, and what tests ask of them."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from golden_script import GOLDEN, golden_script
from safetensors.numpy import save_file

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.t5 import T5, T5Config
from fiat_jax.models.t5_registry import t5_config, t5_leaves, t5_shapes

CASES = ("t5_1_0", "t5_1_1", "mt5")


def script() -> ModuleType:
  """`make_t5.py`, whose weights, adapters and batches need numpy alone."""
  return golden_script("t5")


@functools.cache
def recorded(case: str) -> dict[str, np.ndarray]:
  """What PyTorch computed for a case."""
  with np.load(GOLDEN / "t5.npz") as arrays:
    return {name.removeprefix(f"{case}."): arrays[name] for name in arrays.files if name.startswith(f"{case}.")}


def write_checkpoint(folder: Path, case: str, **changes: Any) -> Path:
  """A case as a Hugging Face folder; `changes` to its configuration."""
  folder.mkdir(parents=True, exist_ok=True)
  (folder / "config.json").write_text(json.dumps(script().CASES[case] | changes))
  save_file(script().tensors(case), folder / "model.safetensors", metadata={"format": "pt"})
  return folder


def load(folder: Path, dtype: str = "float32", lora: LoraConfig | None = None) -> tuple[T5, dict[str, Any]]:
  """Module and parameters of a Hugging Face folder."""
  source = open_checkpoint(folder)
  config = t5_config(source.config, str(folder), dtype)
  return T5(config, lora), load_params(source, t5_leaves(config), t5_shapes(config), dtype)


def adapter_of(case: str, arrays: dict[str, np.ndarray], module: T5) -> dict[str, Any]:
  """PEFT's A and B, or their gradients, under PEFT's names as our stacked tree."""
  tree: dict[str, Any] = {}
  for leaf in t5_leaves(module.config):
    place = "base_model.model." + leaf.source.removesuffix(".weight")
    if not leaf.stacked or f"{place.format(0)}.lora_A.weight" not in arrays:
      continue
    node = tree
    for part in leaf.path[:-1]:
      node = node.setdefault(part, {})
    count = module.config.encoder_layers if leaf.path[0] == "encoder" else module.config.decoder_layers
    for ours, theirs in (("a", "A"), ("b", "B")):
      node[ours] = jnp.asarray(np.stack([arrays[f"{place.format(n)}.lora_{theirs}.weight"].T for n in range(count)]))
  return tree


def rows_of(pairs: Sequence[tuple[np.ndarray, np.ndarray]], sources: int, targets: int) -> dict[str, np.ndarray]:
  """A batch of one pair a row."""
  return packed([[pair] for pair in pairs], sources, targets)


def packed(
  rows: Sequence[Sequence[tuple[np.ndarray, np.ndarray]]], sources: int, targets: int
) -> dict[str, np.ndarray]:
  """A batch of several pairs a row, filled in by the letter of what a batch is."""
  names = {"encoder_tokens": sources, "encoder_segments": sources}
  names |= dict.fromkeys(("decoder_tokens", "decoder_segments", "target_ids"), targets)
  batch = {name: np.zeros((len(rows), length), np.int32) for name, length in names.items()}
  for r, row in enumerate(rows):
    start = begin = 0
    for segment, (source, target) in enumerate(row, 1):
      stop, end = start + len(source), begin + len(target)
      batch["encoder_tokens"][r, start:stop], batch["encoder_segments"][r, start:stop] = source, segment
      batch["decoder_tokens"][r, begin:end], batch["decoder_segments"][r, begin:end] = [0, *target[:-1]], segment
      batch["target_ids"][r, begin:end] = target
      start, begin = stop, end
  batch["target_weights"] = (batch["decoder_segments"] > 0).astype(np.float32)
  return batch


@functools.partial(jax.jit, static_argnums=0)
def forward(module: T5, variables: Any, batch: Any) -> jax.Array:
  """Logits [B, T, V] over the training path."""
  return module.apply(variables, batch, method="target_logits")


WORDS = "red blue green apple plum sky leaf is a the what colour of count on from so answer and none yes no"


def write_vocabulary(folder: Path, size: int = 96) -> Path:
  """`spiece.model`, trained on a few words as T5's was: pad 0, end mark 1, unknown 2, no begin mark."""
  import sentencepiece

  folder.mkdir(parents=True, exist_ok=True)
  words = WORDS.split()
  lines = [" ".join(words[n:] + words[:n]) + " What is 0 1 2 3 4 5 6 7 8 9 + ? . :" for n in range(len(words))]
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines),
    model_prefix=str(folder / "spiece"),
    vocab_size=size,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    hard_vocab_limit=False,
    minloglevel=2,
  )
  (folder / "spiece.vocab").unlink()
  return folder


def add_extra_ids(folder: Path) -> Path:
  """A hundred extra ids among the pieces of `spiece.model`, as the files `….100extra` have them."""
  from sentencepiece import sentencepiece_model_pb2

  file = folder / "spiece.model"
  model = sentencepiece_model_pb2.ModelProto.FromString(file.read_bytes())
  for n in reversed(range(100)):
    model.pieces.add(piece=f"▁<extra_id_{n}>", score=0.0, type=model.SentencePiece.USER_DEFINED)
  file.write_bytes(model.SerializeToString())
  return folder


def write_model(folder: Path, **changes: Any) -> Path:
  """A Hugging Face folder: a random T5 1.1 of two narrow layers each side, with a vocabulary of its own."""
  from transformers import T5Tokenizer

  write_vocabulary(folder)
  tokenizer = T5Tokenizer.from_pretrained(folder)
  tokenizer.save_pretrained(folder)
  (folder / "spiece.model").unlink()
  described = {"model_type": "t5", "d_model": 32, "d_kv": 8, "num_heads": 4, "d_ff": 48, "num_layers": 2}
  described |= {"vocab_size": -(-len(tokenizer) // 64) * 64, "feed_forward_proj": "gated-gelu"}
  described |= {"tie_word_embeddings": False, "decoder_start_token_id": 0} | changes
  (folder / "config.json").write_text(json.dumps(described))
  config = t5_config(described, str(folder), "float32")
  save_file(hugging_face_tensors(config, random_params(config)), folder / "model.safetensors", {"format": "pt"})
  return folder


def random_params(config: T5Config, seed: int = 0) -> dict[str, Any]:
  """At the scales of T5's own initialisation: scores are not scaled, the query's kernel is."""
  generator = np.random.default_rng(seed)

  def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    names = [part.key for part in path]
    if names[-1] == "scale":
      return np.ones(leaf.shape, np.float32)
    deviation = {"embedding": 1.0, "relative_bias": 0.1}.get(names[-1]) or leaf.shape[-2] ** -0.5
    deviation *= config.head_dim**-0.5 if "query" in names else 1.0
    return generator.normal(0, deviation, leaf.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(fill, t5_shapes(config))


def hugging_face_tensors(config: T5Config, params: Any) -> dict[str, np.ndarray]:
  """The parameters under Hugging Face's names, linear layers as [out, in]."""
  tensors = {}
  for leaf in t5_leaves(config):
    values: Any = params
    for part in leaf.path:
      values = values[part]
    for number in range(len(values)) if leaf.stacked else (None,):
      tensor = np.asarray(values if number is None else values[number])
      tensors[leaf.source.format(number)] = np.ascontiguousarray(tensor.T if leaf.transposed else tensor)
  return tensors
