"""One adapter's folder in PEFT's format, read and held against its base. `peft.py` writes such."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import load_file

from fiat_jax.checkpoints.huggingface import read_json
from fiat_jax.checkpoints.peft import BASE, PREFIX, WEIGHTS
from fiat_jax.checkpoints.peft_description import describe, named_by, of_module, targeted
from fiat_jax.errors import UserError
from fiat_jax.models.family import Family
from fiat_jax.models.lora import Kind

NAME = re.compile(
  re.escape(PREFIX)
  + r"(?P<module>.+)\.(lora_(?P<side>[AB])(\.default)?\.weight"
  + r"|(?P<magnitude>lora_magnitude_vector)(\.default)?(\.weight)?|(?P<scale>ia3_l)(\.default)?)"
)


class Place(NamedTuple):
  """Where a module's part belongs: the path in `params` that ends in its kernel, and the number of its layer."""

  path: tuple[str, ...]
  layer: int


class Module(NamedTuple):
  """What may be adapted: its place, and the shape [L, in, out] of its stack's kernels."""

  place: Place
  shape: tuple[int, int, int]


class Part(NamedTuple):
  """What an adapter holds for one module, as `models/adapters.py` names it; of LoRA its scale, rank and alpha."""

  name: str
  held: dict[str, np.ndarray]
  scale: float = 1.0
  alpha: float = 0.0


class Read(NamedTuple):
  """One folder's adapter: its kind, its parts, or its soft prompt [n, D]."""

  kind: Kind
  parts: dict[Place, Part]
  root_rank: bool = False
  dropout: float = 0.0
  prompt: np.ndarray | None = None


def modules(family: Family) -> dict[str, Module]:
  """What may be adapted, by PEFT's name of the module."""
  found: dict[str, Module] = {}
  shapes = family.shapes()
  for leaf in family.leaves():
    if leaf.path[-1] != "kernel" or not leaf.stacked:
      continue
    node: Any = shapes
    for part in leaf.path:
      node = node[part]
    for number in range(node.shape[0]):
      found[leaf.source.removesuffix(".weight").format(number)] = Module(Place(leaf.path, number), node.shape)
  return found


def read_folder(folder: Path, family: Family, fingerprint: str = "") -> Read:
  """The adapter of a folder.

  Args:
    fingerprint: of the base; an adapter that says which it was trained on is not read for another.

  Raises:
    UserError: there is none, it is of another kind or another base, or its tensors are not what its description says.
  """
  description = describe(folder)
  _check_base(folder, fingerprint)
  file = folder / WEIGHTS
  if not file.exists():
    pickled = (folder / "adapter_model.bin").exists()
    raise UserError(
      "holds its weights as a pickle, which may run any program: let PEFT save it again with safe_serialization"
      if pickled
      else f"holds no {WEIGHTS}",
      folder,
    )
  try:
    tensors = {name: np.asarray(tensor, np.float32) for name, tensor in load_file(file).items()}
  except Exception as e:  # safetensors raises one of its own
    raise UserError(f"cannot be read as safetensors ({e}): it is damaged, or saved by another tool", file) from None
  if description["peft_type"] == "PROMPT_TUNING":
    return Read("prompt", {}, prompt=_prompt(description, tensors, family, file))
  held = _held(description, tensors, modules(family), file)
  if description["peft_type"] == "IA3":
    return Read("ia3", _ia3(description, held, modules(family), file))
  kind: Kind = "dora" if description.get("use_dora") else "lora"
  parts = _lora(description, held, modules(family), kind, file)
  return Read(kind, parts, bool(description.get("use_rslora")), float(description.get("lora_dropout") or 0.0))


def _check_whole(
  description: Mapping[str, Any], found: Collection[str], known: Mapping[str, Module], file: Path
) -> None:
  """Raises UserError where a module that the description names has no tensors: it would answer as the base does."""
  missing = sorted(name for name in known if name not in found and targeted(description, name))
  if missing:
    raise UserError(
      f"holds nothing for {len(missing)} of the modules that adapter_config.json names, the first is {missing[0]!r}: "
      "the file is incomplete",
      file,
    )


def _check_base(folder: Path, fingerprint: str) -> None:
  if not fingerprint or not (folder / BASE).exists():
    return
  known = read_json(folder / BASE)
  if known.get("fingerprint") not in (None, fingerprint):
    raise UserError(
      f"was trained on another base than this: {known.get('base')!r}, whose weights have another fingerprint. Give "
      f"that as --model (in the same form), or remove {BASE} if you know that they are the same",
      folder,
    )


def _held(
  description: Mapping[str, Any], tensors: Mapping[str, np.ndarray], known: Mapping[str, Module], file: Path
) -> dict[str, dict[str, np.ndarray]]:
  """The tensors of each module, by what they are."""
  found: dict[str, dict[str, np.ndarray]] = {}
  strange = []
  for name, tensor in tensors.items():
    if (match := NAME.fullmatch(name)) and match["module"] in known:
      found.setdefault(match["module"], {})[match["side"] or match["magnitude"] or match["scale"]] = tensor
    else:
      strange.append(name)
  if strange:
    raise UserError(
      f"{len(strange)} tensors belong to no module of this base, the first is {strange[0]!r}: is it an adapter of "
      f"another base (it names {description.get('base_model_name_or_path')!r}), or not saved by PEFT?",
      file,
    )
  if not found:
    raise UserError("holds no tensors", file)
  _check_whole(description, found, known, file)
  return found


def _lora(
  description: Mapping[str, Any],
  found: Mapping[str, Mapping[str, np.ndarray]],
  known: Mapping[str, Module],
  kind: Kind,
  file: Path,
) -> dict[Place, Part]:
  wanted = {"A", "B"} | ({"lora_magnitude_vector"} if kind == "dora" else set())
  parts = {}
  for name, of in found.items():
    place, (_, inputs, outputs) = known[name]
    if set(of) != wanted:
      has = ", ".join(f"lora_{side}" if side in "AB" else side for side in sorted(of))
      raise UserError(f"{name} has {has} alone: the file is incomplete, or not what its description says", file)
    a, b = of["A"].T, of["B"].T
    magnitude = of.get("lora_magnitude_vector")
    if a.shape[0] != inputs or b.shape[1] != outputs or a.shape[1] != b.shape[0]:
      raise UserError(
        f"{name} has lora_A {of['A'].shape} and lora_B {of['B'].shape}, which do not fit this base's "
        f"{inputs} inputs and {outputs} outputs: it is of another base",
        file,
      )
    held = {"a": a, "b": b}
    if magnitude is not None:
      if magnitude.size != outputs:
        raise UserError(f"{name} has {magnitude.size} magnitudes, and this base {outputs} outputs", file)
      held["magnitude"] = magnitude.reshape(-1)
    alpha = of_module(description, name, "lora_alpha", "alpha_pattern")
    if (stated := of_module(description, name, "r", "rank_pattern")) != a.shape[1]:
      raise UserError(f"{name} has rank {a.shape[1]}, and adapter_config.json says {stated}", file)
    if not alpha:
      raise UserError(f"{name} has lora_alpha 0, with which the adapter changes nothing", file)
    scale = alpha / (a.shape[1] ** 0.5 if description.get("use_rslora") else a.shape[1])
    parts[place] = Part(name, held, scale, alpha)
  return parts


def _ia3(
  description: Mapping[str, Any],
  found: Mapping[str, Mapping[str, np.ndarray]],
  known: Mapping[str, Module],
  file: Path,
) -> dict[Place, Part]:
  forward = description.get("feedforward_modules") or []
  parts = {}
  for name, of in found.items():
    if set(of) != {"ia3_l"}:
      raise UserError(f"{name} has {', '.join(sorted(of))}: it is of another kind than its description", file)
    place, (_, inputs, outputs) = known[name]
    scales_input = named_by(forward, name)
    values, size = of["ia3_l"].reshape(-1), inputs if scales_input else outputs
    if values.size != size:
      raise UserError(f"{name} has {values.size} scales, and this base wants {size}: it is of another base", file)
    parts[place] = Part(name, {"in_scale" if scales_input else "out_scale": values})
  return parts


def _prompt(
  description: Mapping[str, Any], tensors: Mapping[str, np.ndarray], family: Family, file: Path
) -> np.ndarray:
  if set(tensors) != {"prompt_embeddings"}:
    raise UserError(f"holds {', '.join(sorted(tensors)[:3])}, and not prompt_embeddings alone", file)
  prompt, count = tensors["prompt_embeddings"], description["num_virtual_tokens"]
  width = family.shapes()["embedding"].shape[1]
  if prompt.ndim != 2 or prompt.shape[1] != width or len(prompt) < count:
    raise UserError(f"has embeddings {prompt.shape}, this base wants ({count}, {width})", file)
  return prompt[:count]  # of an encoder–decoder PEFT keeps twice as many, and `generate` reads these
