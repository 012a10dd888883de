"""`adapter_config.json` of PEFT: what can be read here, and which modules it speaks of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fiat_jax.checkpoints.huggingface import read_json
from fiat_jax.errors import UserError

CONFIG = "adapter_config.json"
NUMBERS: Mapping[str, Mapping[str, tuple[type, ...]]] = {  # without which an adapter of the kind is none
  "LORA": {"r": (int,), "lora_alpha": (int, float)},
  "IA3": {},
  "PROMPT_TUNING": {"num_virtual_tokens": (int,)},
}
UNREADABLE = {"modules_to_save": "modules saved whole", "trainable_token_indices": "trained tokens"}
CHANGED = {  # what alters the computation or the base, by kinds that PEFT counts as LoRA
  "alora_invocation_tokens": "invocation tokens (aLoRA)",
  "arrow_config": "Arrow's routing",
  "kasa_config": "KaSA",
  "layer_replication": "replicated layers",
  "lora_bias": "biases",
  "monteclora_config": "MonteCLoRA",
  "target_parameters": "adapted parameters",
  "use_bdlora": "block-diagonal matrices",
  "use_qalora": "QA-LoRA",
  "velora_config": "VeLoRA",
}
RESIDUAL = ("pissa", "olora", "corda", "loftq", "lora_ga")  # ways to begin that take the pair away from the base
READABLE = "LoRA, rsLoRA, DoRA, IA3 and soft prompts alone can be read. Merge it with PEFT first"


def describe(folder: Path) -> Mapping[str, Any]:
  """The description in an adapter's folder.

  Raises:
    UserError: there is none, it is damaged, or of a kind that is not read.
  """
  if not (folder / CONFIG).exists():
    raise UserError("is no adapter in PEFT's format: adapter_config.json is missing. Give its folder", folder)
  description = read_json(folder / CONFIG)
  kinds = [kind for key, kind in (UNREADABLE | CHANGED).items() if description.get(key)]
  kinds += ["biases"] if description.get("bias", "none") != "none" else []
  begun = str(description.get("init_lora_weights", "")).lower()
  kinds += [f"a base that {begun} has changed"] if begun.startswith(RESIDUAL) else []
  if description.get("peft_type") not in ("LORA", "IA3", "PROMPT_TUNING") or kinds:
    kind = ", ".join(kinds) or str(description.get("peft_type"))
    raise UserError(f"is an adapter with {kind}: {READABLE}", folder)
  for name, kind in NUMBERS[description["peft_type"]].items():
    if type(description.get(name)) not in kind:
      raise UserError(f"has {name} {description.get(name)!r}: it is damaged, or not saved by PEFT", folder / CONFIG)
  for pattern in _patterns(description):
    try:
      re.compile(pattern)
    except re.error as e:
      raise UserError(f"holds {pattern!r}, which is no regular expression: {e}", folder / CONFIG) from None
  return description


def _patterns(description: Mapping[str, Any]) -> list[str]:
  """Its regular expressions."""
  names = [description.get(key) for key in ("target_modules", "feedforward_modules", "exclude_modules")]
  modules = [pattern for key in ("rank_pattern", "alpha_pattern") for pattern in description.get(key) or ()]
  return [*modules, *(name for name in names if isinstance(name, str))]


def targeted(description: Mapping[str, Any], module: str) -> bool:
  """Whether PEFT adapts a module (`peft/tuners/tuners_utils.py`, `check_target_module_exists`)."""
  if description.get("exclude_modules") and named_by(description["exclude_modules"], module):
    return False
  targets = description.get("target_modules")
  if targets == "all-linear":
    return True
  if not targets or not named_by(targets, module):
    return False
  layers = description.get("layers_to_transform")
  if layers is None or isinstance(targets, str):
    return True
  number = re.search(r"\.(\d+)\.", module)
  return number is not None and int(number[1]) in ([layers] if isinstance(layers, int) else layers)


def named_by(names: str | Sequence[str], module: str) -> bool:
  """Whether a regular expression is a module's name, or one of several names is its end."""
  if isinstance(names, str):
    return bool(re.fullmatch(names, module))
  return any(module == name or module.endswith(f".{name}") for name in names)


def of_module(description: Mapping[str, Any], module: str, key: str, patterns: str) -> float:
  """As PEFT has it: a pattern's value goes to the modules whose names end so."""
  for pattern, value in (description.get(patterns) or {}).items():
    if re.fullmatch(rf"(.*\.)?({pattern})", module):
      return value
  return description[key]
