"""The leaves of a T5X checkpoint folder, native or Orbax, on a disk or in a bucket: names, shapes, values one by one.

A native folder is flax msgpack (`checkpoint`) whose large leaves are zarr folders beside it; Orbax's `state` is zarr
folders, or the same in one OCDBT store, with their names in `_METADATA`, and of old in msgpack. What the leaves mean is
in `t5x.py`, what one is in `t5x_leaf.py`.
"""

from __future__ import annotations

import ast
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from fiat_jax.checkpoints.t5x_leaf import Leaf, context, inline, reason, zarr
from fiat_jax.errors import UserError

OCDBT = "manifest.ocdbt"  # the file that such a store begins with


def folder_spec(path: str) -> dict[str, Any]:
  """TensorStore's name for a folder: a path, `gs://BUCKET/PATH` or `s3://BUCKET/PATH`."""
  scheme, mark, rest = path.partition("://")
  if not mark:
    return {"driver": "file", "path": os.path.abspath(path) + "/"}
  if scheme not in ("gs", "s3"):
    raise UserError(f"checkpoints are read from folders, gs:// and s3://, not from {scheme}://", path)
  bucket, _, place = rest.partition("/")
  place = place.strip("/")
  return {"driver": "gcs" if scheme == "gs" else "s3", "bucket": bucket, "path": f"{place}/" if place else ""}


def is_t5x(path: str) -> bool:
  """Whether a place is taken for a T5X checkpoint: a bucket's address, or a folder with T5X's or Orbax's own files."""
  if "://" in path:
    return True
  folder = pathlib.Path(path)
  names = ("checkpoint", "state", "_METADATA")
  return folder.is_dir() and not (folder / "config.json").exists() and any((folder / name).exists() for name in names)


def read_file(path: str) -> bytes | None:
  """The content of a file on a disk or in a bucket; None where there is none.

  Raises:
    UserError: the bucket cannot be reached.
  """
  folder, _, name = path.rpartition("/")
  return _file(folder_spec(folder or "."), name, path)


def read_leaves(path: str) -> dict[str, Leaf]:
  """Every parameter under T5X's name with slashes, such as `encoder/layers_0/mlp/wo/kernel`.

  Raises:
    UserError: there is no T5X checkpoint there, it is damaged, or the bucket cannot be reached.
  """
  folder = folder_spec(path)
  for place in ("", "state/"):
    state = {**folder, "path": folder["path"] + place}
    if (metadata := _file(state, "_METADATA", path)) is not None:
      return _orbax(state, metadata, path)
    if (content := _file(state, "checkpoint", path)) is not None:
      return _msgpack(state, content, path)
  remote = "; no such bucket, or a private one, looks the same" if "://" in path else ""
  raise UserError(
    "is no T5X checkpoint: it has no file `checkpoint` (native), and neither `_METADATA` nor `checkpoint` stands in a "
    f"folder `state` (Orbax); give the folder of one step, whole, such as checkpoint_1000{remote}",
    path,
  )


def _msgpack(folder: dict[str, Any], content: bytes, path: str) -> dict[str, Leaf]:
  """T5X's native form, or that of an Orbax of old, which is the same tree without its level `optimizer`."""
  from flax import serialization

  try:
    restored: Any = serialization.msgpack_restore(content)
    tree = restored.get("optimizer", restored)
    target = tree["params"] if "params" in tree else tree["target"]
  except Exception as e:  # msgpack and flax raise many kinds
    kind = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
    raise UserError(f"its file `checkpoint` is not what T5X writes ({kind}): fetch the folder again", path) from None
  ocdbt = _file(folder, OCDBT, path) is not None
  leaves = {}
  for whole, value in _flatten(target):
    name = _without_params(whole)
    if isinstance(value, Mapping):
      leaves[name] = zarr({**folder, "path": f"{folder['path']}{_place(value, name, path)}/"}, name, path)
    elif isinstance(value, str):
      leaves[name] = zarr(_within(folder, value.partition("://")[2], ocdbt), name, path)
    else:
      leaves[name] = inline(np.asarray(value))
  return leaves


def _without_params(name: str) -> str:
  """A leaf's name without Flax's collection, which some versions keep as a level of the tree."""
  return "/".join(part for part in name.split("/") if part != "params")


def _within(folder: dict[str, Any], name: str, ocdbt: bool) -> dict[str, Any]:
  """Where Orbax keeps a leaf: in a folder of its own, or in the one store of all."""
  if ocdbt:
    return {"driver": "ocdbt", "base": folder, "path": f"{name}/"}
  return {**folder, "path": f"{folder['path']}{name}/"}


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
  """Leaves by name; a TensorStore spec, which is a mapping as well, is one."""
  found = []
  for name, node in tree.items():
    inner = isinstance(node, Mapping) and not isinstance(node.get("driver"), str)
    found += _flatten(node, f"{prefix}{name}/") if inner else [(f"{prefix}{name}", node)]
  return found


def _place(spec: Mapping[str, Any], name: str, path: str) -> str:
  """The leaf's folder: the last part of a path that may be absolute, from another machine, or in a bucket not ours."""
  store = spec.get("kvstore", {})
  written = spec.get("path") or (store.get("path") if isinstance(store, Mapping) else str(store)) or ""
  last = written.rstrip("/").rpartition("/")[2]
  if spec.get("driver") != "zarr" or not last:
    raise UserError(f"{name} is kept in a form that is not read here ({spec.get('driver')}): zarr is", path)
  return last


def _orbax(state: dict[str, Any], metadata: bytes, path: str) -> dict[str, Leaf]:
  try:
    described = json.loads(metadata)
    keys = [ast.literal_eval(key) for key in described["tree_metadata"]]
  except (ValueError, KeyError, SyntaxError) as e:
    raise UserError(f"its _METADATA is not what Orbax writes ({e}): fetch the folder again", path) from None
  driver = "zarr3" if described.get("use_zarr3") else "zarr"
  ocdbt = _file(state, OCDBT, path) is not None
  leaves = {}
  for key in keys:
    if key[0] in ("target", "params") and (name := _without_params("/".join(key[1:]))):
      leaves[name] = zarr(_within(state, ".".join(key), ocdbt), name, path, driver)
  return leaves


def _file(folder: dict[str, Any], name: str, path: str) -> bytes | None:
  import tensorstore

  try:
    found = tensorstore.KvStore.open(folder, context=context()).result().read(name).result()
  except Exception as e:
    raise UserError(f"cannot be reached ({reason(e)}): check the name, the network and the rights", path) from None
  return found.value if found.state == "value" else None
