"""A whole model, merged or fully tuned, as a Hugging Face folder of either family. T5X's own form is in `t5x.py`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from fiat_jax.checkpoints.new_folder import new_folder
from fiat_jax.checkpoints.tokenizer_files import save_tokenizer
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.models.family import Family

SHARD_BYTES = 4 << 30  # so much is held a second time while it is written


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
    description: the `config.json` that the model came with, or what a T5X checkpoint's shapes say.
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
    described = {**description, "tie_word_embeddings": tied, "dtype": dtype}
    described.pop("torch_dtype", None)  # the name of old
    (partial / "config.json").write_text(json.dumps(described, indent=2) + "\n")
    if beside:
      beside(partial)


def _write_weights(folder: Path, params: Mapping[str, Any], family: Family, shard_bytes: int) -> str:
  """Writes the tensors and returns their type's name."""
  shards: list[dict[str, np.ndarray]] = [{}]
  weight_map: dict[str, int] = {}
  filled = total = 0
  dtype = ""

  def write(number: int) -> None:
    save_file(shards[number], folder / f"{number}.safetensors", metadata={"format": "pt"})
    shards[number] = {}

  for name, tensor in _tensors(params, family):
    if filled and filled + tensor.nbytes > shard_bytes:
      write(len(shards) - 1)
      shards.append({})
      filled = 0
    shards[-1][name], weight_map[name] = tensor, len(shards) - 1
    filled, total, dtype = filled + tensor.nbytes, total + tensor.nbytes, tensor.dtype.name
  write(len(shards) - 1)
  if len(shards) == 1:
    (folder / "0.safetensors").rename(folder / "model.safetensors")
    return dtype
  files = [f"model-{n + 1:05d}-of-{len(shards):05d}.safetensors" for n in range(len(shards))]
  for number, file in enumerate(files):
    (folder / f"{number}.safetensors").rename(folder / file)
  index = {"metadata": {"total_size": total}, "weight_map": {name: files[n] for name, n in weight_map.items()}}
  (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
  return dtype


def _tensors(params: Mapping[str, Any], family: Family) -> Iterator[tuple[str, np.ndarray]]:
  """Every tensor under Hugging Face's name and in its layout, one at a time."""
  for leaf in family.leaves():
    values: Any = params
    for part in leaf.path:
      values = values[part]
    for number in range(values.shape[0]) if leaf.stacked else (None,):
      tensor = np.asarray(values if number is None else values[number])
      yield leaf.source.format(number), np.ascontiguousarray(tensor.T if leaf.transposed else tensor)
