"""A T5X checkpoint's leaves with their layers one by one, kernels as [in, out], however the network kept them.

Layers are `layers_N`, or scanned: one leaf for all, which has them on axis 1, under `STACK/layers` or, as some versions
of T5X's `scalable_t5` have it, `STACK/STACK`. Attention's kernels may keep heads and their places as two axes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fiat_jax.checkpoints.t5x_leaf import Leaf
from fiat_jax.errors import UserError

SCANNED = re.compile(r"(encoder|decoder)/(?:layers|\1)/(.+)")
HEADS_LAST = ("query/kernel", "key/kernel", "value/kernel")  # [in, heads, places]; out is [heads, places, out]


class Tensor(NamedTuple):
  """A leaf, or a layer of one that is scanned, in its shape as [in, out]."""

  shape: tuple[int, ...]
  leaf: Leaf
  layer: int | None

  def read(self) -> np.ndarray:
    return self.leaf.read(self.layer, 1).reshape(self.shape)


def one_by_one(leaves: Mapping[str, Leaf], path: str) -> dict[str, Tensor]:
  """Every tensor under the name that it has where layers are `layers_N`.

  Raises:
    UserError: layers have relative biases of their own, a scanned leaf has no axis for them, or one stands there twice.
  """
  found: dict[str, Tensor] = {}
  for name, leaf in leaves.items():
    if name.endswith("/rel_embedding") and (name.count("/") > 2 or len(leaf.shape) == 3):
      raise UserError("is a umT5: each of its layers has a relative bias of its own, not supported; take an mT5", path)
    if not (scanned := SCANNED.fullmatch(name)):
      tensors = {name: Tensor(_flat(name, leaf.shape), leaf, None)}
    elif len(leaf.shape) < 2:
      raise UserError(f"{name} is {list(leaf.shape)}: of scanned layers, axis 1 is expected to count them", path)
    else:
      shape = _flat(name, leaf.shape[:1] + leaf.shape[2:])
      stack, rest = scanned.groups()
      tensors = {f"{stack}/layers_{n}/{rest}": Tensor(shape, leaf, n) for n in range(leaf.shape[1])}
    if twice := sorted(found.keys() & tensors.keys()):
      raise UserError(f"{twice[0]} stands there twice, once as {name}: which is meant is not known", path)
    found |= tensors
  return found


def _flat(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
  if len(shape) == 3 and name.endswith(HEADS_LAST):
    return shape[0], math.prod(shape[1:])
  if len(shape) == 3 and name.endswith("/out/kernel"):
    return math.prod(shape[:2]), shape[2]
  return shape
