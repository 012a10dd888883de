"""T5X folders by a writer of our own reading of the format: bytes, JSON and gzip, neither TensorStore nor flax."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import t5 as small

ATTENTION = {"q": "query", "k": "key", "v": "value", "o": "out"}
NORMS = {
  "encoder": ("pre_attention_layer_norm", "pre_mlp_layer_norm"),
  "decoder": ("pre_self_attention_layer_norm", "pre_cross_attention_layer_norm", "pre_mlp_layer_norm"),
}


def t5x_arrays(case: str) -> dict[str, np.ndarray]:
  """A case's weights under T5X's names, translated from Hugging Face's word by word."""
  found = {}
  for name, values in small.script().tensors(case).items():
    stack, *parts = name.split(".")
    if stack == "shared":
      found["token_embedder/embedding"] = values
    elif stack == "lm_head":
      found["decoder/logits_dense/kernel"] = values.T
    elif "relative" in name:
      found[f"{stack}/relpos_bias/rel_embedding"] = values.T
    elif parts[0] == "final_layer_norm":
      found[f"{stack}/{stack}_norm/scale"] = values
    else:
      _, block, _, layer, kind, *rest = parts
      place = f"{stack}/layers_{block}"
      if kind == "layer_norm":
        found[f"{place}/{NORMS[stack][int(layer)]}/scale"] = values
      elif kind == "DenseReluDense":
        found[f"{place}/mlp/{rest[0]}/kernel"] = values.T
      else:
        own = "attention" if stack == "encoder" else "self_attention"
        found[
          f"{place}/{own if kind == 'SelfAttention' else 'encoder_decoder_attention'}/{ATTENTION[rest[0]]}/kernel"
        ] = values.T
  return found


def scanned(arrays: Mapping[str, np.ndarray], scan: str = "{stack}/layers") -> dict[str, np.ndarray]:
  """The layers of each stack on axis 1 of one leaf, under the scan's name."""
  found = {name: values for name, values in arrays.items() if "/layers_" not in name}
  for name in arrays:
    if "/layers_0/" in name:
      layers = [arrays[f] for n in range(9) if (f := name.replace("layers_0", f"layers_{n}")) in arrays]
      stack, rest = name.split("/layers_0/")
      found[f"{scan.format(stack=stack)}/{rest}"] = np.stack(layers, axis=1)
  return found


def with_heads(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Attention's kernels with an axis for the heads and one for their places."""
  heads = len(arrays["encoder/relpos_bias/rel_embedding"])
  found = dict(arrays)
  for name, values in arrays.items():
    if name.endswith(("query/kernel", "key/kernel", "value/kernel")):
      found[name] = values.reshape(len(values), heads, -1)
    elif name.endswith("out/kernel"):
      found[name] = values.reshape(heads, -1, values.shape[1])
  return found


def write_zarr(folder: Path, array: np.ndarray) -> None:
  """Zarr 2: `.zarray`, and chunks of half of the first axis, which need not divide it."""
  folder.mkdir(parents=True)
  rows = -(-len(array) // 2)
  chunks = [rows, *array.shape[1:]]
  described = {
    "zarr_format": 2,
    "shape": list(array.shape),
    "chunks": chunks,
    "dtype": "bfloat16" if array.dtype.name == "bfloat16" else array.dtype.str,
    "compressor": {"id": "gzip", "level": 1},
    "fill_value": None,
    "filters": None,
    "order": "C",
  }
  (folder / ".zarray").write_text(json.dumps(described))
  for n in range(2):
    chunk = np.zeros(chunks, array.dtype)
    part = array[n * rows : (n + 1) * rows]
    chunk[: len(part)] = part
    (folder / ".".join([str(n), *["0"] * (array.ndim - 1)])).write_bytes(gzip.compress(chunk.tobytes(), mtime=0))


SPECS = {
  "file": lambda place: {"driver": "zarr", "kvstore": {"driver": "file", "path": place}},
  "gfile, absolute": lambda place: {
    "driver": "zarr",
    "kvstore": {"driver": "gfile", "path": f"/elsewhere/run/{place}"},
  },
  "gcs, dummy bucket": lambda place: {
    "driver": "zarr",
    "kvstore": {"driver": "gcs", "bucket": "t5x-dummy-bucket"},
    "path": place,
  },
  "trailing slash": lambda place: {"driver": "zarr", "kvstore": {"driver": "gfile", "path": f"{place}/"}},
}


def array_ext(array: np.ndarray) -> msgpack.ExtType:
  """flax's form of an array."""
  content = (array.shape, array.dtype.name, array.tobytes())
  return msgpack.ExtType(1, msgpack.packb(content, use_bin_type=True))


def write(folder: Path, arrays: Mapping[str, np.ndarray], form: str = "file", state: bool = True) -> Path:
  """A native checkpoint; vectors inline, the rest zarr; Adafactor's state beside the parameters."""
  folder.mkdir(parents=True)

  def entry(prefix: str, name: str, array: np.ndarray) -> Any:
    if array.ndim < 2:
      return array_ext(array)
    place = ".".join([prefix, *name.split("/")])
    write_zarr(folder / place, np.ascontiguousarray(array))
    metadata = {"chunks": list(array.shape), "compressor": {"id": "gzip", "level": 1}, "shape": list(array.shape)}
    return SPECS[form](place) | {"dtype": array.dtype.name, "metadata": metadata}

  target: dict[str, Any] = {}
  factors: dict[str, Any] = {}
  for name, array in arrays.items():
    *parts, last = name.split("/")
    node, other = target, factors
    for part in parts:
      node, other = node.setdefault(part, {}), other.setdefault(part, {})
    node[last] = entry("target", name, array)
    other[last] = {"m": None, "v": None, "v_row": array_ext(np.zeros(len(array), np.float32)), "v_col": None}
  optimizer = {"target": target}
  if state:
    optimizer["state"] = {"step": array_ext(np.array(7, np.int32)), "param_states": factors}
  content = {"version": 3, "optimizer": optimizer}
  (folder / "checkpoint").write_bytes(msgpack.packb(content, use_bin_type=True))
  return folder


def write_form(folder: Path, arrays: Mapping[str, np.ndarray], form: str) -> Path:
  """A checkpoint that is `native`, or one of Orbax's own: a zarr folder for a leaf (`orbax`) or one store (`ocdbt`)."""
  if form == "native":
    return write(folder, arrays)
  import orbax.checkpoint as ocp

  target: dict[str, Any] = {}
  for name, array in arrays.items():
    *parts, last = name.split("/")
    node = target
    for part in parts:
      node = node.setdefault(part, {})
    node[last] = np.ascontiguousarray(array)
  tree = {"target": target, "state": {"step": np.int32(7), "param_states": {"decoder": np.zeros(3)}}}
  folder.mkdir()
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_ocdbt=form == "ocdbt")) as checkpointer:
    checkpointer.save(folder / "state", tree)
  return folder


def write_old_orbax(folder: Path, arrays: Mapping[str, np.ndarray], collection: tuple[str, ...] = ()) -> Path:
  """As Orbax wrote before `_METADATA`: the tree in msgpack, whose leaves name the zarr folders beside it."""
  tree: dict[str, Any] = {"target": {}, "state": {"step": array_ext(np.array(7, np.int32))}}
  state = folder / "state"
  for name, array in arrays.items():
    *parts, last = ["target", *collection, *name.split("/")]
    node, place = tree, ".".join([*parts, last])
    for part in parts:
      node = node.setdefault(part, {})
    write_zarr(state / place, np.ascontiguousarray(array))
    node[last] = f"PLACEHOLDER://{place}"
  (state / "checkpoint").write_bytes(msgpack.packb(tree, use_bin_type=True))
  return folder
