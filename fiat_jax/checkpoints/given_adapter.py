"""Adapters that were trained elsewhere, in PEFT's format, one or a weighted sum of several. `peft.py` writes ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from fiat_jax.checkpoints.huggingface import read_json
from fiat_jax.checkpoints.peft import PREFIX
from fiat_jax.errors import UserError
from fiat_jax.models.family import Family

NAME = re.compile(re.escape(PREFIX) + r"(?P<module>.+)\.lora_(?P<side>[AB])(\.default)?\.weight")
OTHER_KINDS = {
  "use_dora": "DoRA",
  "modules_to_save": "modules saved whole",
  "trainable_token_indices": "trained tokens",
}


class Place(NamedTuple):
  """Where a module's pair belongs: the path in `params` that ends in its kernel, and the number of its layer."""

  path: tuple[str, ...]
  layer: int


class Pair(NamedTuple):
  """a [in, rank] and b [rank, out], whose product times `scale` is added to the kernel."""

  a: np.ndarray
  b: np.ndarray
  scale: float


def read(given: str, family: Family, scale: float) -> dict[str, Any]:
  """The adapter that ADAPTER names: `FOLDER`, or `FOLDER:WEIGHT,FOLDER:WEIGHT`, their changes added up.

  Args:
    family: of the base, which says what there is to adapt.
    scale: what the base's module multiplies A · B by; it is taken out of B.

  Returns:
    `a` [L, in, rank] and `b` [L, rank, out] where `params` has a kernel, f32; zeros where a layer has no pair or a
    smaller rank than others of its stack.

  Raises:
    UserError: there is none, it is of another kind or another base, or its tensors are not what its description says.
  """
  shapes = _shapes(family)
  pairs: dict[Place, list[Pair]] = {}
  for folder, weight in _named(given):
    for place, pair in _pairs(folder, shapes):
      pairs.setdefault(place, []).append(pair._replace(scale=pair.scale * weight / scale))
  adapter: dict[str, Any] = {}
  for path in sorted({place.path for place in pairs}):
    node = adapter
    for part in path[:-1]:
      node = node.setdefault(part, {})
    stack, inputs, outputs = next(shape for place, shape in shapes.values() if place.path == path)
    layers = [pairs.get(Place(path, number), []) for number in range(stack)]
    rank = max(sum(pair.a.shape[1] for pair in layer) for layer in layers)
    node.update(a=np.zeros((stack, inputs, rank), np.float32), b=np.zeros((stack, rank, outputs), np.float32))
    for number, layer in enumerate(layers):
      used = 0
      for pair in layer:
        columns = slice(used, used := used + pair.a.shape[1])
        node["a"][number][:, columns], node["b"][number][columns] = pair.a, pair.b * np.float32(pair.scale)
  return adapter


def _named(given: str) -> list[tuple[Path, float]]:
  """The folders that ADAPTER names, with their weights: 1 where none stands there."""
  found = []
  for part in given.split(","):
    folder, _, weight = part.strip().rpartition(":")
    try:
      found.append((Path(folder).expanduser(), float(weight)))
    except ValueError:
      found.append((Path(part.strip()).expanduser(), 1.0))
  return found


def _shapes(family: Family) -> dict[str, tuple[Place, tuple[int, int, int]]]:
  """What may be adapted, by PEFT's name of the module: its place, and the shape [L, in, out] of its stack's kernels."""
  found: dict[str, tuple[Place, tuple[int, int, int]]] = {}
  shapes = family.shapes()
  for leaf in family.leaves():
    if leaf.path[-1] != "kernel" or not leaf.stacked:
      continue
    node: Any = shapes
    for part in leaf.path:
      node = node[part]
    for number in range(node.shape[0]):
      found[leaf.source.removesuffix(".weight").format(number)] = Place(leaf.path, number), node.shape
  return found


def _pairs(folder: Path, shapes: Mapping[str, tuple[Place, tuple[int, int, int]]]) -> Iterator[tuple[Place, Pair]]:
  """Every pair of one adapter."""
  description = _description(folder)
  file = folder / "adapter_model.safetensors"
  if not file.exists():
    pickled = (folder / "adapter_model.bin").exists()
    raise UserError(
      "holds its weights as a pickle, which may run any program: let PEFT save it again with safe_serialization"
      if pickled
      else "holds no adapter_model.safetensors",
      folder,
    )
  sides: dict[str, dict[str, np.ndarray]] = {}
  strange = []
  for name, tensor in load_file(file).items():
    if (match := NAME.fullmatch(name)) and match["module"] in shapes:
      sides.setdefault(match["module"], {})[match["side"]] = np.asarray(tensor, np.float32)
    else:
      strange.append(name)
  if strange:
    raise UserError(
      f"{len(strange)} tensors belong to no module of this base, the first is {strange[0]!r}: is it an adapter of "
      f"another base (it names {description.get('base_model_name_or_path')!r}), or not saved by PEFT?",
      file,
    )
  if not sides:
    raise UserError("holds no tensors", file)
  for module, found in sides.items():
    place, (_, inputs, outputs) = shapes[module]
    if set(found) != {"A", "B"}:
      raise UserError(f"{module} has lora_{'A' if 'A' in found else 'B'} alone: the file is incomplete", file)
    a, b = found["A"].T, found["B"].T
    if a.shape[0] != inputs or b.shape[1] != outputs or a.shape[1] != b.shape[0]:
      raise UserError(
        f"{module} has lora_A {found['A'].shape} and lora_B {found['B'].shape}, which do not fit this base's "
        f"{inputs} inputs and {outputs} outputs: it is of another base",
        file,
      )
    yield place, Pair(a, b, _scale(description, module, a.shape[1], file))


def _description(folder: Path) -> Mapping[str, Any]:
  if not (folder / "adapter_config.json").exists():
    raise UserError("is no adapter in PEFT's format: adapter_config.json is missing. Give its folder", folder)
  description = read_json(folder / "adapter_config.json")
  kinds = [kind for key, kind in OTHER_KINDS.items() if description.get(key)]
  kinds += ["biases"] if description.get("bias", "none") != "none" else []
  if description.get("peft_type") != "LORA" or kinds:
    kind = ", ".join(kinds) or str(description.get("peft_type"))
    raise UserError(f"is an adapter with {kind}: LoRA and rsLoRA alone can be read. Merge it with PEFT first", folder)
  return description


def _scale(description: Mapping[str, Any], module: str, rank: int, file: Path) -> float:
  """alpha / rank or alpha / √rank, as PEFT has it: a pattern's value goes to the modules whose names end so."""

  def of(key: str, patterns: str) -> float:
    for pattern, value in (description.get(patterns) or {}).items():
      if re.fullmatch(rf"(.*\.)?({pattern})", module):
        return value
    return description[key]

  if (stated := of("r", "rank_pattern")) != rank:
    raise UserError(f"{module} has rank {rank}, and adapter_config.json says {stated}", file)
  return of("lora_alpha", "alpha_pattern") / (rank**0.5 if description.get("use_rslora") else rank)
