"""The text of a compiled program (HLO), taken apart: computations, their instructions, shapes and their bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128}

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\(([^)]*)\)(.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z\d]*)\[([\d,]*)\](\{[^}]*\})?")


class Instruction(NamedTuple):
  name: str
  shape: str
  kind: str
  operands: Sequence[str]
  rest: str
  root: bool


def parse(text: str) -> tuple[dict[str, list[Instruction]], str]:
  computations: dict[str, list[Instruction]] = {}
  entry, current = "", []
  for line in text.splitlines():
    if head := _HEAD.match(line):
      current = computations.setdefault(head[2], [])
      entry = head[2] if head[1] else entry
    elif found := _LINE.match(line):
      root, name, shape, kind, inside, rest = found.groups()
      operands = [inside] if kind in ("constant", "parameter") else re.findall(r"%([\w.\-]+)", inside)
      current.append(Instruction(name, shape, kind, operands, rest, bool(root)))
  return computations, entry


def named(computation: Sequence[Instruction]) -> tuple[dict[str, Instruction], Instruction]:
  """A computation's instructions by name, and what it gives."""
  return {i.name: i for i in computation}, next(i for i in computation if i.root)


def arrays(shape: str) -> list[str]:
  return [found[0] for found in _ARRAY.finditer(shape)]


def sizes(shape: str) -> list[int]:
  found = _ARRAY.search(shape)
  assert found is not None, shape
  return [int(size) for size in found[2].split(",") if size]


def bytes_of(array: str) -> float:
  found = _ARRAY.search(array)
  assert found is not None, array
  digits = re.search(r"\d+", found[1])
  bits = BITS.get(found[1]) or (int(digits[0]) if digits else 0)
  return math.prod(sizes(array)) * bits / 8


def in_memory(shape: str) -> float:
  """Bytes of a shape's arrays in the device's own memory, not in that of a core (`S(1)` and the like)."""
  return sum(bytes_of(found[0]) for found in _ARRAY.finditer(shape) if not re.search(r"S\([1-9]\)", found[3] or ""))
