"""What the gin files under `gin/tasks/` say of a task's rows, read as text: gin and its state are left alone."""

from __future__ import annotations

import pathlib
import re
from typing import Any

from fiat_jax import resources
from fiat_jax.data import splits
from fiat_jax.data.rows import Layout
from fiat_jax.macros import read_macros

SPLITS = ("train", "validation", "test")


def settings(task: str) -> dict[str, Any]:
  """Every setting as the task's gin file has it, with what it includes, over the defaults."""
  return {**_macros("runs/rows.gin"), **_macros(f"tasks/{task}.gin")}


def files(found: dict[str, Any]) -> dict[str, str]:
  """The paths of the splits: those that are named, and those that DATA is split into."""
  given = {split: found[split.upper()] for split in SPLITS if found[split.upper()]}
  if not found["DATA"]:
    return given
  shares = (found["VALIDATION_SHARE"], found["TEST_SHARE"])
  return splits.paths(found["DATA"], given, *shares, found["SPLIT_SEED"]) | given


def layout(found: dict[str, Any]) -> Layout:
  names = ("target", "lang", "group", "id", "reasoning", "input", "labels")
  return Layout(**{name: found[name.upper()] for name in names})


def _macros(name: str) -> dict[str, Any]:
  file: pathlib.Path = resources.shipped("gin") / name
  text = file.read_text(encoding="utf-8")
  included = re.findall(r"^include 'gin/(.+)'$", text, flags=re.MULTILINE)
  own = {name: macro.default for name, macro in read_macros(file).items()}
  return {key: value for other in included for key, value in _macros(other).items()} | own
