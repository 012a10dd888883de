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

from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.registry import Leaf

PREFIX = "base_model.model."


def write_adapter(
  folder: pathlib.Path, adapter: Mapping[str, Any], leaves: Sequence[Leaf], config: LoraConfig, base: str
) -> None:
  """Writes an adapter of stacked layers.

  Args:
    adapter: `a` [L, in, rank] and `b` [L, rank, out] where `params` has a kernel; PEFT keeps both transposed.
    leaves: where each kernel comes from, which gives the names.
    base: what PEFT shall load under it.
  """
  tensors: dict[str, np.ndarray] = {}
  modules, stems = set[str](), set[str]()
  for leaf in leaves:
    node: Any = adapter
    for part in leaf.path[:-1]:
      node = node.get(part, {})
    if "a" not in node:
      continue
    module = leaf.source.removesuffix(".weight")
    modules.add(module.rsplit(".", 1)[-1])
    stems.add(module.partition("layers.{}")[0])
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
    "task_type": "CAUSAL_LM",
    "base_model_name_or_path": base,
    "r": config.rank,
    "lora_alpha": config.alpha,
    "lora_dropout": config.dropout,
    "target_modules": _targets(modules, stems),
    "bias": "none",
    "use_rslora": config.scaling == "root_rank",
    "use_dora": False,
    "fan_in_fan_out": False,
    "inference_mode": True,
  }
  (folder / "adapter_config.json").write_text(json.dumps(description, indent=2) + "\n")


def _targets(modules: set[str], stems: set[str]) -> list[str] | str:
  """The names that PEFT looks for, or its regular expression where a model has parts that use the same names."""
  if stems == {"model."}:
    return sorted(modules)
  return rf".*({'|'.join(map(re.escape, sorted(stems)))})layers\.\d+\..*\.({'|'.join(sorted(modules))})"
