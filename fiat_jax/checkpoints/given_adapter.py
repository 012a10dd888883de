"""Adapters that were trained elsewhere, in PEFT's format, one or a weighted sum of several, as training has them."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fiat_jax.checkpoints.peft import WEIGHTS
from fiat_jax.checkpoints.peft_folder import Part, Place, Read, modules, read_folder
from fiat_jax.errors import UserError
from fiat_jax.models.adapters import PROMPT
from fiat_jax.models.family import Family
from fiat_jax.models.lora import Kind


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
  """An adapter over stacked layers.

  Attributes:
    tree: as `models/adapters.py` has it, f32; zeros where a layer has no pair, or a smaller rank than others.
    scales: `scale` [L] beside each pair (the collection `lora_scale`), which is not trained; empty of other kinds.
    ranks: rank and alpha of each module by PEFT's name.
    root_rank: whether alpha is divided by the rank's root.
  """

  kind: Kind
  tree: Mapping[str, Any]
  scales: Mapping[str, Any]
  ranks: Mapping[str, tuple[int, float]]
  root_rank: bool = False
  dropout: float = 0.0


def read(given: str, family: Family, fingerprint: str = "") -> Given:
  """The adapter that ADAPTER names: `FOLDER`, or `FOLDER:WEIGHT,FOLDER:WEIGHT`, their changes added up.

  Args:
    family: of the base, which says what there is to adapt.
    fingerprint: of the base; an adapter that says which it was trained on is not read for another.

  Raises:
    UserError: as `peft_folder.read_folder`, or several are given of which one is not LoRA.
  """
  named = _named(given)
  found = [read_folder(folder, family, fingerprint) for folder, _ in named]
  kinds = {one.kind for one in found}
  if kinds != {"lora"} and (len(found) > 1 or named[0][1] != 1):
    raise UserError(f"--adapter {given}: LoRA and rsLoRA alone can be weighted and added up: give one folder", None)
  if found[0].prompt is not None:
    return Given(kind="prompt", tree={PROMPT: found[0].prompt}, scales={}, ranks={})
  if found[0].kind == "ia3":
    return Given(kind="ia3", tree=_ia3(found[0].parts, family), scales={}, ranks={})
  return _low_rank(found, [weight for _, weight in named], family, named[0][0])


def digest(given: str) -> str:
  """SHA-256 of the files that ADAPTER names, with their weights."""
  found = hashlib.sha256()
  for folder, weight in _named(given):
    found.update(f"{weight}\n".encode())
    for name in ("adapter_config.json", WEIGHTS):
      found.update((folder / name).read_bytes() if (folder / name).exists() else b"")
  return found.hexdigest()


def _named(given: str) -> list[tuple[Path, float]]:
  """The folders that ADAPTER names, with their weights: 1 where none stands there."""
  found = []
  for part in given.split(","):
    folder, _, weight = part.strip().rpartition(":")
    try:
      found.append((Path(folder).expanduser(), float(weight)))
    except ValueError:
      found.append((Path(part.strip()).expanduser(), 1.0))
  if not all(math.isfinite(weight) and weight for _, weight in found) or not all(map(str.strip, given.split(","))):
    raise UserError(f"--adapter {given}: give FOLDER or FOLDER:WEIGHT, with commas between them, no weight being 0")
  return found


def _low_rank(found: Sequence[Read], weights: Sequence[float], family: Family, folder: Path) -> Given:
  """Pairs of one layer side by side: the scale is that of the first, and B takes what the others' differ by."""
  parts: dict[Place, list[tuple[Part, float]]] = {}
  for one, weight in zip(found, weights, strict=True):
    for place, part in one.parts.items():
      parts.setdefault(place, []).append((part, weight))
  dora, tree, scales = found[0].kind == "dora", {}, {}
  ranks: dict[str, tuple[int, float]] = {}
  shapes = {module.place.path: module.shape for module in modules(family).values()}
  for path in sorted({place.path for place in parts}):
    count, inputs, outputs = shapes[path]
    layers = [parts.get(Place(path, number), []) for number in range(count)]
    if dora and not all(layers):
      raise UserError("has DoRA on some of the layers alone: merge it with PEFT first", folder)
    sizes = [sum(part.held["a"].shape[1] for part, _ in layer) for layer in layers]
    node = {
      "a": np.zeros((count, inputs, max(sizes)), np.float32),
      "b": np.zeros((count, max(sizes), outputs), np.float32),
    }
    scale = np.ones(count, np.float32)
    for number, layer in enumerate(layers):
      used = 0
      for part, weight in layer:
        scale[number] = layer[0][0].scale
        columns = slice(used, used := used + part.held["a"].shape[1])
        node["a"][number][:, columns] = part.held["a"]
        node["b"][number][columns] = part.held["b"] * np.float32(weight * part.scale / layer[0][0].scale)
      if layer:
        root = found[0].root_rank
        ranks[layer[0][0].name] = used, layer[0][0].scale * (used**0.5 if root else used)
        if len(layer) == 1:
          ranks[layer[0][0].name] = used, layer[0][0].alpha  # as it was written, to the bit
    if dora:
      node["magnitude"] = np.stack([layer[0][0].held["magnitude"] for layer in layers])
    _put(tree, path[:-1], node)
    _put(scales, path[:-1], {"scale": scale})
  return Given(
    kind=found[0].kind,
    tree=tree,
    scales=scales,
    ranks=ranks,
    root_rank=found[0].root_rank,
    dropout=found[0].dropout,
  )


def _ia3(parts: Mapping[Place, Part], family: Family) -> dict[str, Any]:
  tree: dict[str, Any] = {}
  shapes = {module.place.path: module.shape for module in modules(family).values()}
  for place, part in parts.items():
    ((name, values),) = part.held.items()
    node: Any = tree
    for key in place.path[:-1]:
      node = node.setdefault(key, {})
    node.setdefault(name, np.ones((shapes[place.path][0], values.size), np.float32))[place.layer] = values
  return tree


def _put(tree: dict[str, Any], path: Sequence[str], leaf: Mapping[str, Any]) -> None:
  for part in path[:-1]:
    tree = tree.setdefault(part, {})
  tree[path[-1]] = dict(leaf)
