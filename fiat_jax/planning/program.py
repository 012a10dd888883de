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

from fiat_jax.planning import hlo
from fiat_jax.planning.hlo import Instruction

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "conditional", "call", "after-all",
        "partition-id", "iota", "optimization-barrier")  # fmt: skip
# Products of attention's kernel (`models/fused.py`), whose inside the text does not show: forward q · k, weights · v;
# backward the scores again, and the gradients of weights, queries, keys and values. Later keys are left out.
SPLASH = {"splash_mha_fwd": 2, "splash_mha_dkv": 5}
# Custom calls that move nothing: an array's place alone, arrays that lie side by side already, what was begun before.
STILL = ("AllocateBuffer", "ConcatBitcast", "AssumeGatherIndicesInBound", "AsyncCollectiveDone")
BEGINS = "AsyncCollectiveStart"  # a fusion that others carry on, and that counts for all of them

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


def costs(text: str, trips: int = 1) -> Costs:
  """Counts a compiled program.

  Args:
    text: `jax.stages.Compiled.as_text()`.
    trips: how often a loop runs whose number the program does not say.
  """
  computations, entry = hlo.parse(text)
  program = _Program(computations, trips)
  flops, traffic = program.count(entry)
  gathered: dict[str, float] = collections.defaultdict(float)
  for (kind, _), amount in program.collectives(entry).items():
    gathered[kind] += amount
  return Costs(flops, traffic, dict(gathered))


class _Program:
  def __init__(self, computations: Mapping[str, list[Instruction]], trips: int):
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
        arrays = hlo.arrays(i.shape)
        amount = max(map(hlo.bytes_of, arrays)) if i.kind.endswith("-start") else sum(map(hlo.bytes_of, arrays))
        found[kind, channel[1] if channel else f"{name}/{i.name}"] = amount
      times = self._times(i) if i.kind == "while" else 1
      for key, other in self._called(i).items():
        if key != "to_apply" or i.kind == "call":
          for place, amount in self.collectives(other).items():
            found[place] = max(found.get(place, 0.0), times * amount)
    return found

  def _called(self, i: Instruction) -> dict[str, str]:
    return {key: name for key, name in _CALLED.findall(i.rest) if name in self._computations}

  def _times(self, loop: Instruction) -> int:
    known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)
    if known:
      return int(known[1])
    called = self._called(loop)
    by_name, root = hlo.named(self._computations[called["condition"]])
    if root.kind == "compare" and "direction=LT" in root.rest:
      counter, last = (by_name[operand] for operand in root.operands)
      place = re.search(r"index=(\d+)", counter.rest)
      if last.kind == "constant" and place:
        return -(-int(last.operands[0]) // self._stride(called["body"], int(place[1])))
    return self._trips

  def _stride(self, body: str, place: int) -> int:
    """By how much a loop's counter grows each time: by more than one where two rounds were made one."""
    by_name, root = hlo.named(self._computations[body])
    at, grown = by_name[root.operands[place]], 0
    while at.kind in ("add", "copy", "bitcast"):
      parts = [by_name[operand] for operand in at.operands]
      grown += sum(int(part.operands[0]) for part in parts if part.kind == "constant")
      at = next((part for part in parts if part.kind != "constant"), parts[0])
    return max(1, grown)

  def _product(self, name: str, i: Instruction) -> float:
    shapes = self._shapes[name]
    if i.kind == "dot":
      left = hlo.sizes(shapes[i.operands[0]])
      summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", i.rest)
      axes = [int(axis) for axis in summed[1].split(",") if axis] if summed else []
      return 2.0 * math.prod(hlo.sizes(i.shape)) * math.prod(left[axis] for axis in axes)
    if i.kind == "convolution":
      return _convolution(
        hlo.sizes(shapes[i.operands[0]]), hlo.sizes(shapes[i.operands[1]]), hlo.sizes(i.shape), i.rest
      )
    products = next((count for start, count in SPLASH.items() if i.name.startswith(start)), 0)
    if i.kind == "custom-call" and products:
      *heads, length, width = max((hlo.sizes(shapes[o]) for o in i.operands if shapes.get(o)), key=math.prod)
      return products * math.prod(heads) * length**2 * width  # of two operations a pair, half of the pairs
    return 0.0

  def _moved(self, name: str, i: Instruction) -> float:
    shapes, given = self._shapes[name], hlo.in_memory(i.shape)
    if i.kind == "custom-call" and any(f'"{target}"' in i.rest for target in STILL):
      return 0.0
    if i.kind in ("dynamic-slice", "slice", "gather"):
      return 2.0 * given
    if i.kind in ("dynamic-update-slice", "scatter"):
      return 2.0 * hlo.in_memory(shapes[i.operands[-1 if i.kind == "scatter" else 1]])
    if i.kind.endswith("-done"):
      return 0.0  # counted where it began
    if i.kind == "slice-start":  # of an array, to an array, and what keeps count
      new = hlo.arrays(i.shape)[1]
      return hlo.bytes_of(new) + hlo.in_memory(new)
    if i.kind.endswith("-start"):
      return given  # both arrays
    return given + sum(hlo.in_memory(shapes.get(operand, "")) for operand in i.operands)

  def _fused(self, name: str, i: Instruction, body: str) -> float:
    """A fusion reads what it uses of its operands, slices of some, and writes what it gives, or what is new of it."""
    shapes, inside = self._shapes[name], self._computations[body]
    read = 0.0
    for part in inside:
      if part.kind == "parameter" and (whole := hlo.in_memory(shapes.get(i.operands[int(part.operands[0])], ""))):
        read += min(whole, self._used(body, part.name))
    _, root = hlo.named(inside)
    if root.kind == "custom-call" and any(f'"{target}"' in root.rest for target in STILL):
      return 0.0
    return read + self._written(body, root, i.shape)

  def _used(self, body: str, value: str) -> float:
    """Bytes of a value that its users within a fusion, and in fusions within that, look at."""
    total = 0.0
    for part in self._computations[body]:
      if value not in part.operands:
        continue
      first = part.operands[0] == value
      if part.kind in ("dynamic-slice", "slice", "gather") and first:
        total += sum(map(hlo.bytes_of, hlo.arrays(part.shape)))
      elif part.kind == "bitcast":
        total += self._used(body, part.name)
      elif part.kind == "fusion":
        inner = self._called(part)["calls"]
        given = {int(p.operands[0]): p.name for p in self._computations[inner] if p.kind == "parameter"}
        total += sum(self._used(inner, given[n]) for n, operand in enumerate(part.operands) if operand == value)
      elif (
        part.kind != "tuple" and not (part.kind == "dynamic-update-slice" and first) and not self._carried(body, part)
      ):
        return math.inf
    return total

  def _written(self, body: str, given: Instruction, shape: str) -> float:
    """Bytes that go to memory of what a fusion gives, an array of `shape` there, or several."""
    by_name, _ = hlo.named(self._computations[body])
    if given.kind == "tuple":
      arrays = hlo.arrays(shape)
      return sum(self._written(body, by_name[o], array) for o, array in zip(given.operands, arrays, strict=True))
    if given.kind == "parameter" or self._carried(body, given):
      return 0.0
    if given.kind == "bitcast":
      return self._written(body, by_name[given.operands[0]], shape)
    if given.kind == "fusion" and not given.shape.startswith("("):
      inner = self._called(given)["calls"]
      return self._written(inner, hlo.named(self._computations[inner])[1], shape)
    if given.kind == "dynamic-update-slice" and hlo.in_memory(shape):
      return sum(map(hlo.bytes_of, hlo.arrays(self._shapes[body][given.operands[1]])))
    return hlo.in_memory(shape)

  def _carried(self, body: str, part: Instruction) -> bool:
    """Whether it is a collective that another fusion began."""
    return part.kind in COLLECTIVES and BEGINS not in hlo.named(self._computations[body])[1].rest


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
