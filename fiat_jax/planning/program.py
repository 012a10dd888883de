"""What a compiled program does on one device, read from its text (HLO): products, traffic with memory, collectives.

XLA's own `cost_analysis` counts a loop's body once. Here it counts as often as the loop runs.
"""

from __future__ import annotations

import collections
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
        "partition-id", "iota", "optimization-barrier")  # fmt: skip
# Products of attention's kernel (`models/fused.py`), whose inside the text does not show: forward q · k, weights · v;
# backward the scores again, and the gradients of weights, queries, keys and values. Later keys are left out.
SPLASH = {"splash_mha_fwd": 2, "splash_mha_dkv": 5}
BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128}

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.+?) ([a-z][\w\-]*)\(([^)]*)\)(.*)$")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z\d]*)\[([\d,]*)\](\{[^}]*\})?")
_CALLED = re.compile(r"\b(calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_CHANNEL = re.compile(r"channel_id=(\d+)")


class Costs(NamedTuple):
  """Of one run of a program on one device.

  Attributes:
    flops: of matrix products and convolutions, two a multiplication with its addition.
    traffic: bytes read from and written to the device's memory, roughly.
    collectives: bytes that each kind gives, summed.
  """

  flops: float
  traffic: float
  collectives: Mapping[str, float]


class _Instruction(NamedTuple):
  name: str
  shape: str
  kind: str
  operands: Sequence[str]
  rest: str
  root: bool


def costs(text: str, trips: int = 1) -> Costs:
  """Counts a compiled program.

  Args:
    text: `jax.stages.Compiled.as_text()`.
    trips: how often a loop runs whose number the program does not say.
  """
  computations, entry = _parse(text)
  program = _Program(computations, trips)
  flops, traffic = program.count(entry)
  gathered: dict[str, float] = collections.defaultdict(float)
  for (kind, _), amount in program.collectives(entry).items():
    gathered[kind] += amount
  return Costs(flops, traffic, dict(gathered))


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
  computations: dict[str, list[_Instruction]] = {}
  entry, current = "", []
  for line in text.splitlines():
    if head := _HEAD.match(line):
      current = computations.setdefault(head[2], [])
      entry = head[2] if head[1] else entry
    elif found := _LINE.match(line):
      root, name, shape, kind, inside, rest = found.groups()
      operands = [inside] if kind in ("constant", "parameter") else re.findall(r"%([\w.\-]+)", inside)
      current.append(_Instruction(name, shape, kind, operands, rest, bool(root)))
  return computations, entry


class _Program:
  def __init__(self, computations: Mapping[str, list[_Instruction]], trips: int):
    self._computations, self._trips = computations, trips
    self._shapes = {name: {i.name: i.shape for i in body} for name, body in computations.items()}

  @functools.cache  # noqa: B019  as long as one count
  def count(self, name: str) -> tuple[float, float]:
    """FLOPs and traffic of a computation that is run as it stands."""
    flops = traffic = 0.0
    for i in self._computations[name]:
      called, times = self._called(i), 1
      if i.kind == "while":
        times, called = self._times(i), {"body": called["body"]}
      inner = [self.count(other) for key, other in called.items() if key != "to_apply" or i.kind == "call"]
      flops += self._product(name, i) + times * sum(pair[0] for pair in inner)
      if i.kind not in ("fusion", *FREE):
        traffic += self._moved(name, i)
      elif i.kind == "fusion":
        traffic += self._fused(name, i, called["calls"])
      if i.kind != "fusion":
        traffic += times * sum(pair[1] for pair in inner)
    return flops, traffic

  @functools.cache  # noqa: B019
  def collectives(self, name: str) -> dict[tuple[str, str], float]:
    """Bytes by kind and channel; what is begun here and finished there has one channel, and counts once."""
    found: dict[tuple[str, str], float] = {}
    for i in self._computations[name]:
      kind = i.kind.removesuffix("-start")
      if kind in COLLECTIVES:
        channel = _CHANNEL.search(i.rest)
        arrays = _arrays(i.shape)
        amount = max(map(_bytes, arrays)) if i.kind.endswith("-start") else sum(map(_bytes, arrays))
        found[kind, channel[1] if channel else f"{name}/{i.name}"] = amount
      times = self._times(i) if i.kind == "while" else 1
      for key, other in self._called(i).items():
        if key != "to_apply" or i.kind == "call":
          for place, amount in self.collectives(other).items():
            found[place] = max(found.get(place, 0.0), times * amount)
    return found

  def _called(self, i: _Instruction) -> dict[str, str]:
    return {key: name for key, name in _CALLED.findall(i.rest) if name in self._computations}

  def _times(self, loop: _Instruction) -> int:
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)
    if known:
      return int(known[1])
    called = self._called(loop)
    by_name, root = _named(self._computations[called["condition"]])
    if root.kind == "compare" and "direction=LT" in root.rest:
      counter, last = (by_name[operand] for operand in root.operands)
      place = re.search(r"index=(\d+)", counter.rest)
      if last.kind == "constant" and place:
        return -(-int(last.operands[0]) // self._stride(called["body"], int(place[1])))
    return self._trips

  def _stride(self, body: str, place: int) -> int:
    """By how much a loop's counter grows each time: by more than one where two rounds were made one."""
    by_name, root = _named(self._computations[body])
    at, grown = by_name[root.operands[place]], 0
    while at.kind in ("add", "copy", "bitcast"):
      parts = [by_name[operand] for operand in at.operands]
      grown += sum(int(part.operands[0]) for part in parts if part.kind == "constant")
      at = next((part for part in parts if part.kind != "constant"), parts[0])
    return max(1, grown)

  def _product(self, name: str, i: _Instruction) -> float:
    shapes = self._shapes[name]
    if i.kind == "dot":
      left = _sizes(shapes[i.operands[0]])
      summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.rest)
      axes = [int(axis) for axis in summed[1].split(",") if axis] if summed else []
      return 2.0 * math.prod(_sizes(i.shape)) * math.prod(left[axis] for axis in axes)
    if i.kind == "convolution":
      return _convolution(_sizes(shapes[i.operands[0]]), _sizes(shapes[i.operands[1]]), _sizes(i.shape), i.rest)
    products = next((count for start, count in SPLASH.items() if i.name.startswith(start)), 0)
    if i.kind == "custom-call" and products:
      *heads, length, width = max((_sizes(shapes[o]) for o in i.operands if shapes.get(o)), key=math.prod)
      return products * math.prod(heads) * length**2 * width  # of two operations a pair, half of the pairs
    return 0.0

  def _moved(self, name: str, i: _Instruction) -> float:
    shapes, given = self._shapes[name], _memory(i.shape)
    if i.kind in ("dynamic-slice", "slice", "gather"):
      return 2.0 * given
    if i.kind in ("dynamic-update-slice", "scatter"):
      return 2.0 * _memory(shapes[i.operands[-1 if i.kind == "scatter" else 1]])
    if i.kind.endswith("-done"):
      return 0.0  # counted where it began
    if i.kind.endswith("-start"):
      return 2.0 * max((_memory(array) for array in _arrays(i.shape)), default=0.0)
    return given + sum(_memory(shapes.get(operand, "")) for operand in i.operands)

  def _fused(self, name: str, i: _Instruction, body: str) -> float:
    """A fusion reads what it uses of its operands, slices of some, and writes what it gives, or what is new of it."""
    inside, shapes = self._computations[body], self._shapes[name]
    total = 0.0
    parameters = {part.name: int(part.operands[0]) for part in inside if part.kind == "parameter"}
    for parameter, number in parameters.items():
      whole, users = shapes.get(i.operands[number], ""), [part for part in inside if parameter in part.operands]
      cut = [
        part for part in users if part.kind in ("dynamic-slice", "slice", "gather") and part.operands[0] == parameter
      ]
      put = [part for part in users if part.kind == "dynamic-update-slice" and part.operands[0] == parameter]
      if users and len(cut) + len(put) == len(users):
        total += (
          sum(min(_memory(whole), sum(map(_bytes, _arrays(part.shape)))) for part in cut) if _memory(whole) else 0.0
        )
      else:
        total += _memory(whole)
    new = [part for part in inside if part.kind == "dynamic-update-slice"]
    written = sum(sum(map(_bytes, _arrays(self._shapes[body][part.operands[1]]))) for part in new)
    return total + (min(written, _memory(i.shape)) if new else _memory(i.shape))


def _named(computation: Sequence[_Instruction]) -> tuple[dict[str, _Instruction], _Instruction]:
  """A computation's instructions by name, and what it gives."""
  return {i.name: i for i in computation}, next(i for i in computation if i.root)


def _convolution(left: Sequence[int], right: Sequence[int], out: Sequence[int], rest: str) -> float:
  """FLOPs, of places within the input alone; what XLA makes of a product of matrices has no places or few."""
  labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", rest)
  assert labels is not None, rest
  window = dict(re.findall(r"(\w+)=([\dx_\-]+)", (re.search(r"window=\{([^}]*)\}", rest) or ["", ""])[1]))
  places = 1
  for axis in sorted(set(labels[1]) - {"b", "f"}):
    number = int(axis)
    of = lambda key, default, n=number: window[key].split("x")[n] if key in window else default  # noqa: E731
    before, stride, wide, apart = (
      int(of("pad", "0_0").split("_")[0]),
      *(int(of(key, "1")) for key in ("stride", "lhs_dilate", "rhs_dilate")),
    )
    size = (left[labels[1].index(axis)] - 1) * wide + 1
    starts = [n * stride - before for n in range(out[labels[3].index(axis)])]
    steps = [n * apart for n in range(right[labels[2].index(axis)])]
    places *= sum(0 <= start + step < size and (start + step) % wide == 0 for start in starts for step in steps)
  summed = right[labels[2].index("i")]
  return 2.0 * out[labels[3].index("b")] * out[labels[3].index("f")] * summed * places


def _arrays(shape: str) -> list[str]:
  return [found[0] for found in _ARRAY.finditer(shape)]


def _sizes(shape: str) -> list[int]:
  found = _ARRAY.search(shape)
  assert found is not None, shape
  return [int(size) for size in found[2].split(",") if size]


def _bytes(array: str) -> float:
  found = _ARRAY.search(array)
  assert found is not None, array
  digits = re.search(r"\d+", found[1])
  bits = BITS.get(found[1]) or (int(digits[0]) if digits else 0)
  return math.prod(_sizes(array)) * bits / 8


def _memory(shape: str) -> float:
  """Bytes of a shape's arrays in the device's own memory, not in that of a core (`S(1)` and the like)."""
  return sum(_bytes(found[0]) for found in _ARRAY.finditer(shape) if not re.search(r"S\([1-9]\)", found[3] or ""))
