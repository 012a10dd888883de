"""The settings that `gin/runs/rows.gin` declares, read as text: flags and help come from there and cannot drift."""

from __future__ import annotations

import ast
import dataclasses
import pathlib
import re
from typing import Any

from fiat_jax import resources


@dataclasses.dataclass(frozen=True)
class Declared:
  """A macro: its default and what the comment above it says."""

  default: Any
  help: str


def declared() -> dict[str, Declared]:
  """Every macro that there is, in the file's order."""
  return read_macros(resources.shipped("gin") / "runs" / "rows.gin")


def read_macros(file: pathlib.Path) -> dict[str, Declared]:
  """The macros of a gin file that have plain values of one line each; gin itself is not touched."""
  found: dict[str, Declared] = {}
  comment: list[str] = []
  for line in file.read_text(encoding="utf-8").splitlines():
    if line.startswith("#"):
      comment.append(line.removeprefix("#").strip())
    else:
      match = re.match(r"(?P<name>[A-Z_]+) = (?P<value>.+)", line)
      if match:
        found[match["name"]] = Declared(ast.literal_eval(match["value"]), " ".join(comment))
      comment = []
  return found


def kind(default: Any) -> str:
  """What a value like this default is called."""
  return {
    str: "text",
    bool: "truth value, True or False",
    int: "whole number",
    float: "number",
    tuple: "list, as in a,b",
  }[type(default)]
