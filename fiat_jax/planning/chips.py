"""Accelerators that plans are made for: what one holds and how fast it is at best, by its maker's data sheets."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from fiat_jax.errors import UserError

GIB = 2**30
GPU_SHARE = 0.9  # of a card's memory that JAX is given (`cli.py`); the rest is the driver's and what else runs there


class Chip(NamedTuple):
  """One device; rates a second, 0 where they are not known.

  Attributes:
    memory: bytes that programs may have.
    flops: of bf16 products.
    bandwidth: bytes to and from its memory.
    links: bytes to its neighbours, over all links.
  """

  name: str
  memory: float
  flops: float = 0.0
  bandwidth: float = 0.0
  links: float = 0.0


# cloud.google.com/tpu/docs/{v4,v5e,v5p,v6e}: memory, peak in bf16, memory bandwidth, bandwidth between chips.
TPUS = {
  "v4": Chip("TPU v4", 32 * GIB, 275e12, 1228e9, 300e9),
  "v5e": Chip("TPU v5e", 16 * GIB, 197e12, 819e9, 200e9),
  "v5p": Chip("TPU v5p", 95 * GIB, 459e12, 2765e9, 600e9),
  "v6e": Chip("TPU v6e", 32 * GIB, 918e12, 1640e9, 448e9),
}
AXES = {"v4": 3, "v5p": 3, "v5e": 2, "v6e": 2}  # of a slice
SMALLEST = {"v4": "2x2x1", "v5p": "2x2x1", "v5e": "2x2", "v6e": "2x2"}  # that libtpu describes
EXAMPLES = "such as v5e:4x4, v4:2x2x2 or v5e:1x1; or cuda:24GB, cuda:8x80GB"


class Target(NamedTuple):
  """So many devices of a kind.

  Attributes:
    described: what libtpu calls a slice that has them; empty: it is no TPU.
  """

  text: str
  chip: Chip
  devices: int
  described: str = ""


def parse(text: str) -> Target:
  """Reads TOPOLOGY.

  Raises:
    UserError: it names no devices that are known.
  """
  kind, _, rest = text.partition(":")
  if kind in TPUS and re.fullmatch(r"\d+(x\d+)*", rest):
    sizes = [int(size) for size in rest.split("x")]
    if len(sizes) != AXES[kind] or min(sizes) < 1:
      raise UserError(f"--topology {text}: a slice of {kind} has {AXES[kind]} axes, such as {kind}:{SMALLEST[kind]}")
    devices = math.prod(sizes)
    return Target(text, TPUS[kind], devices, f"{kind}:{rest}" if devices > 1 else f"{kind}:{SMALLEST[kind]}")
  if kind == "cuda" and (found := re.fullmatch(r"(?:(\d+)x)?(\d+(?:\.\d+)?)GB", rest)):
    count, memory = int(found[1] or 1), float(found[2])
    if count and memory:
      return Target(text, Chip(f"GPU of {found[2]} GB", GPU_SHARE * memory * 1e9), count)
  raise UserError(f"--topology {text}: name devices, {EXAMPLES}")
