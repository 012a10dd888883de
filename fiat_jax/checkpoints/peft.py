"""Adapters in PEFT's format, which other tools load: `adapter_config.json` and `adapter_model.safetensors`."""

from __future__ import annotations

import json
import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from fiat_jax.models.family import Family
from fiat_jax.models.lora import LoraConfig

PREFIX = "base_model.model."
MULTIMODAL = "model.language_model."  # beside it stands a part for pictures, whose modules have the same names


def write_adapter(
  folder: pathlib.Path, adapter: Mapping[str, Any], family: Family, config: LoraConfig, base: str
) -> None:
  """Writes an adapter of stacked layers.

  Args:
    adapter: `a` [L, in, rank] and `b` [L, rank, out] where `params` has a kernel; PEFT keeps both transposed.
    family: says where each kernel comes from, which gives the names.
    base: what PEFT shall load under it, a name on the Hub with its `@REVISION` where one is meant.
  """
  tensors: dict[str, np.ndarray] = {}
  adapted, others = [], []
  for leaf in family.leaves():
    if leaf.path[-1] != "kernel":
      continue
    node: Any = adapter
    for part in leaf.path[:-1]:
      node = node.get(part, {})
    module = leaf.source.removesuffix(".weight")
    if "a" not in node:
      others.append(module)
      continue
    adapted.append(module)
    a, b = np.asarray(node["a"], np.float32), np.asarray(node["b"], np.float32)
    for number in range(len(a)):
      name = PREFIX + module.format(number)
      tensors[f"{name}.lora_A.weight"] = np.ascontiguousarray(a[number].T)
      tensors[f"{name}.lora_B.weight"] = np.ascontiguousarray(b[number].T)
  folder.mkdir(parents=True, exist_ok=True)
  weights = folder / "adapter_model.safetensors"
  save_file(tensors, weights.with_suffix(".partial"), metadata={"format": "pt"})
  os.replace(weights.with_suffix(".partial"), weights)
  description = {
    "peft_type": "LORA",
    "task_type": family.task,
    "base_model_name_or_path": base.partition("@")[0],
    **({"revision": revision} if (revision := base.partition("@")[2]) else {}),
    "r": config.rank,
    "lora_alpha": config.alpha,
    "lora_dropout": config.dropout,
    "target_modules": _targets(adapted, others),
    "bias": "none",
    "use_rslora": config.scaling == "root_rank",
    "use_dora": False,
    "fan_in_fan_out": False,
    "inference_mode": True,
  }
  (folder / "adapter_config.json").write_text(json.dumps(description, indent=2) + "\n")


def _targets(adapted: Sequence[str], others: Sequence[str]) -> list[str] | str:
  """The names that PEFT looks for, or its regular expression where a module that has no adapter has such a name."""
  names = {module.rpartition(".")[2] for module in adapted}
  elsewhere = {module.rpartition(".")[2] for module in others}
  if not names & elsewhere and not any(module.startswith(MULTIMODAL) for module in adapted):
    return sorted(names)
  return "|".join(re.escape(module).replace(re.escape("{}"), r"\d+") for module in adapted)
