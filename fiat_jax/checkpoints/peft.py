"""Adapters in PEFT's format, which other tools load: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from safetensors.numpy import save_file

from fiat_jax.models.adapters import PROMPT
from fiat_jax.models.family import Family
from fiat_jax.models.lora import LoraConfig

PREFIX = "base_model.model."
MULTIMODAL = "model.language_model."  # beside it stands a part for pictures, whose modules have the same names
BASE = "base.json"  # which PEFT does not read: the base's fingerprint
WEIGHTS = "adapter_model.safetensors"

Ranks = Mapping[str, tuple[int, float]]


class Adapted(NamedTuple):
  """A stack of modules: PEFT's name with `{}` for the layer, and what the adapter holds for it, layers stacked."""

  module: str
  held: Mapping[str, np.ndarray]


def write_adapter(
  folder: pathlib.Path,
  adapter: Mapping[str, Any],
  family: Family,
  config: LoraConfig,
  base: str,
  *,
  fingerprint: str = "",
  ranks: Ranks | None = None,
) -> None:
  """Writes an adapter of stacked layers.

  Args:
    adapter: what `models/adapters.py` says, beside kernels [in, out]; PEFT keeps matrices transposed.
    family: says where each kernel comes from, which gives the names.
    base: what PEFT shall load under it, a name on the Hub with its `@REVISION` where one is meant.
    fingerprint: of the base's weights, kept beside it; empty: it is not known.
    ranks: rank and alpha of every module by PEFT's name, where they are not all the configuration's; of a module that
      is not named nothing is written.
  """
  stacks, others = _stacks(adapter, family)
  if config.kind == "prompt":
    tensors, more = _prompt(adapter, family)
  elif config.kind == "ia3":
    tensors, more = _ia3(stacks, others)
  else:
    tensors, more = _lora(stacks, others, config, ranks)
  folder.mkdir(parents=True, exist_ok=True)
  weights = folder / WEIGHTS
  save_file(tensors, weights.with_suffix(".partial"), metadata={"format": "pt"})
  os.replace(weights.with_suffix(".partial"), weights)
  description = {
    "task_type": family.task,
    "base_model_name_or_path": base.partition("@")[0],
    **({"revision": revision} if (revision := base.partition("@")[2]) else {}),
    **more,
    "inference_mode": True,
  }
  (folder / "adapter_config.json").write_text(json.dumps(description, indent=2) + "\n")
  if fingerprint:
    (folder / BASE).write_text(json.dumps({"base": base, "fingerprint": fingerprint}, indent=2) + "\n")


def _stacks(adapter: Mapping[str, Any], family: Family) -> tuple[list[Adapted], list[str]]:
  """The stacks of modules that have something of the adapter, and the others' names."""
  adapted, others = [], []
  for leaf in family.leaves():
    if leaf.path[-1] != "kernel":
      continue
    node: Any = adapter
    for part in leaf.path[:-1]:
      node = node.get(part, {}) if isinstance(node, Mapping) else {}
    held = {name: np.asarray(value, np.float32) for name, value in node.items() if not isinstance(value, Mapping)}
    module = leaf.source.removesuffix(".weight")
    if held:
      adapted.append(Adapted(module, held))
    else:
      others.append(module)
  return adapted, others


def _modules(stacks: Sequence[Adapted]) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
  """Every module by its own name, with what the adapter holds for it."""
  for stack in stacks:
    for number in range(len(next(iter(stack.held.values())))):
      yield stack.module.format(number), {name: leaf[number] for name, leaf in stack.held.items()}


def _lora(
  stacks: Sequence[Adapted], others: Sequence[str], config: LoraConfig, ranks: Ranks | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  tensors: dict[str, np.ndarray] = {}
  for module, held in _modules(stacks):
    rank = ranks.get(module, (0, 0.0))[0] if ranks is not None else config.rank
    if not rank:
      continue
    name = PREFIX + module
    tensors[f"{name}.lora_A.weight"] = np.ascontiguousarray(held["a"][:, :rank].T)
    tensors[f"{name}.lora_B.weight"] = np.ascontiguousarray(held["b"][:rank].T)
    if "magnitude" in held:
      tensors[f"{name}.lora_magnitude_vector"] = held["magnitude"]
  rank, alpha = config.rank, config.alpha
  targets: list[str] | str = _targets([stack.module for stack in stacks], others)
  patterns: dict[str, Any] = {}
  if ranks:
    rank = collections.Counter(rank for rank, _ in ranks.values()).most_common(1)[0][0]
    alpha = collections.Counter(alpha for _, alpha in ranks.values()).most_common(1)[0][0]
    unlike: dict[str, Any] = {"rank_pattern": {re.escape(name): own for name, (own, _) in ranks.items() if own != rank}}
    unlike["alpha_pattern"] = {re.escape(name): own for name, (_, own) in ranks.items() if own != alpha}
    patterns = {name: pattern for name, pattern in unlike.items() if pattern}
    if len(ranks) < sum(1 for _ in _modules(stacks)):  # some layers of a stack alone
      targets = "|".join(map(re.escape, ranks))
  description = {
    "peft_type": "LORA",
    "r": rank,
    "lora_alpha": alpha,
    "lora_dropout": config.dropout,
    **patterns,
    "target_modules": targets,
    "bias": "none",
    "use_rslora": config.scaling == "root_rank",
    "use_dora": config.kind == "dora",
    "fan_in_fan_out": False,
  }
  return tensors, description


def _ia3(stacks: Sequence[Adapted], others: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  tensors: dict[str, np.ndarray] = {}
  for module, held in _modules(stacks):
    values = held["in_scale"][None] if "in_scale" in held else held["out_scale"][:, None]
    tensors[f"{PREFIX}{module}.ia3_l"] = np.ascontiguousarray(values)
  inputs = [stack.module for stack in stacks if "in_scale" in stack.held]
  rest = [stack.module for stack in stacks if "in_scale" not in stack.held]
  description = {
    "peft_type": "IA3",
    "target_modules": _targets([*inputs, *rest], others),
    "feedforward_modules": _targets(inputs, [*others, *rest]) if inputs else [],
    "fan_in_fan_out": False,
  }
  if isinstance(description["target_modules"], str):  # PEFT compares two lists alone
    description["feedforward_modules"] = _pattern(inputs) if inputs else []
  return tensors, description


def _prompt(adapter: Mapping[str, Any], family: Family) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
  prompt = np.asarray(adapter[PROMPT], np.float32)
  description = {
    "peft_type": "PROMPT_TUNING",
    "num_virtual_tokens": len(prompt),
    "token_dim": prompt.shape[1],
    "num_transformer_submodules": 1,  # the encoder alone, in training and in `generate`
    "prompt_tuning_init": "RANDOM",
  }
  return {"prompt_embeddings": prompt}, description | {
    "num_attention_heads": family.units()["heads"],
    "num_layers": next(leaf.shape[0] for leaf in jax.tree.leaves(family.shapes()) if len(leaf.shape) == 3),
  }


def _targets(adapted: Sequence[str], others: Sequence[str]) -> list[str] | str:
  """The names that PEFT looks for, or its regular expression where a module that has no adapter has such a name."""
  names = {module.rpartition(".")[2] for module in adapted}
  elsewhere = {module.rpartition(".")[2] for module in others}
  if not names & elsewhere and not any(module.startswith(MULTIMODAL) for module in adapted):
    return sorted(names)
  return _pattern(adapted)


def _pattern(modules: Sequence[str]) -> str:
  return "|".join(re.escape(module).replace(re.escape("{}"), r"\d+") for module in modules)
