"""A whole model, merged or fully tuned, as a Hugging Face folder of either family. T5X's own form is in `t5x.py`."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fiat_jax.checkpoints import streamed
from fiat_jax.checkpoints.new_folder import new_folder
from fiat_jax.checkpoints.peft import MULTIMODAL
from fiat_jax.checkpoints.streamed import Tensor
from fiat_jax.checkpoints.tokenizer_files import save_tokenizer
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.models.family import Family

SHARD_BYTES = 4 << 30
MARKS = ("bos_token_id", "eos_token_id", "pad_token_id")
BLOCK = 64  # rows that are turned into columns at once


def write_hugging_face(
  folder: str | os.PathLike[str],
  params: Mapping[str, Any],
  family: Family,
  description: Mapping[str, Any],
  tokenizer: Tokenizer | None = None,
  shard_bytes: int = SHARD_BYTES,
  beside: Callable[[Path], None] | None = None,
) -> None:
  """Writes `config.json`, safetensors in the parameters' type, and the tokenizer's files: all of it or nothing.

  Args:
    params: the tree `params`, its adapter merged (`models/lora.py`).
    description: the `config.json` that the model came with, or what a T5X checkpoint's shapes say. Of a model that
      sees pictures, too, the text model is written, which is what was read of it.
    tokenizer: whose files are written beside it.
    shard_bytes: of a file; a model of more is written in shards, with their index.
    beside: writes what else shall stand in the folder.

  Raises:
    UserError: there is something already.
  """
  wanted = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  with new_folder(folder, wanted) as partial:
    if tokenizer:
      save_tokenizer(tokenizer, partial)
    dtype = _write_weights(partial, params, family, shard_bytes)
    # A head of its own stands in the files, and transformers ties it unless told not to.
    tied = not any(leaf.path[0] == "head" for leaf in family.leaves())
    if any(leaf.source.startswith(MULTIMODAL) for leaf in family.leaves()):
      description = _of_text(description)
    described = {**description, "tie_word_embeddings": tied, "dtype": dtype}
    for name in ("torch_dtype", "_name_or_path"):  # its name of old; a place on somebody's machine
      described.pop(name, None)
    (partial / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    if beside:
      beside(partial)


def _of_text(description: Mapping[str, Any]) -> dict[str, Any]:
  """The `config.json` of the text part of a Gemma 3 that sees pictures, which transformers has as a model by itself."""
  marks = {name: description[name] for name in MARKS if description.get(name) is not None}
  text = {**(description.get("text_config") or {}), **marks}
  return text | {"model_type": "gemma3_text", "architectures": ["Gemma3ForCausalLM"]}


def _write_weights(folder: Path, params: Mapping[str, Any], family: Family, shard_bytes: int) -> str:
  """Writes the tensors and returns their type's name."""
  shards: list[list[Tensor]] = [[]]
  for tensor in _tensors(params, family):
    if shards[-1] and sum(one.nbytes for one in shards[-1]) + tensor.nbytes > shard_bytes:
      shards.append([])
    shards[-1].append(tensor)
  dtype = shards[0][0].dtype.name
  if len(shards) == 1:
    streamed.write(folder / "model.safetensors", shards[0])
    return dtype
  files = [f"model-{n + 1:05d}-of-{len(shards):05d}.safetensors" for n in range(len(shards))]
  for file, shard in zip(files, shards, strict=True):
    streamed.write(folder / file, shard)
  weight_map = {tensor.name: file for file, shard in zip(files, shards, strict=True) for tensor in shard}
  total = sum(tensor.nbytes for shard in shards for tensor in shard)
  index = {"metadata": {"total_size": total}, "weight_map": weight_map}
  (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
  return dtype


def _tensors(params: Mapping[str, Any], family: Family) -> Iterator[Tensor]:
  """Every tensor under Hugging Face's name and in its layout."""
  for leaf in family.leaves():
    name = f"model.{leaf.source.removeprefix(MULTIMODAL)}" if leaf.source.startswith(MULTIMODAL) else leaf.source
    values: Any = params
    for part in leaf.path:
      values = values[part]
    for number in range(values.shape[0]) if leaf.stacked else (None,):
      shape = values.shape if number is None else values.shape[1:]
      make = functools.partial(_made, values, number, leaf.transposed)
      yield Tensor(name.format(number), shape[::-1] if leaf.transposed else shape, values.dtype, make)


def _made(values: Any, number: int | None, transposed: bool) -> np.ndarray:
  """A layer's tensor, contiguous. What lies on the host already is only looked at, not copied layer by layer."""
  devices = values.devices() if isinstance(values, jax.Array) else ()
  if len(devices) <= 1 and all(device.platform == "cpu" for device in devices):
    values = np.asarray(values)
  tensor = np.asarray(values if number is None else values[number])
  return _turned(tensor) if transposed else np.ascontiguousarray(tensor)


def _turned(matrix: np.ndarray) -> np.ndarray:
  """The transposed matrix, written by blocks that stay in the processor's cache, which numpy's own order does not."""
  bits = matrix.view(f"u{matrix.itemsize}")
  turned = np.empty(bits.shape[::-1], bits.dtype)
  for start in range(0, len(bits), BLOCK):
    turned[:, start : start + BLOCK] = bits[start : start + BLOCK].T
  return turned.view(matrix.dtype)
