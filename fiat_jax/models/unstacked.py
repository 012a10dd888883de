"""Stacked leaves, as training scans them, taken apart into one tree a layer, as decoding walks over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax


def slices(stacked: Mapping[str, Any], count: int, *, consumes: bool = False) -> list[dict[str, Any]]:
  """One tree for each of the `count` layers on the first axis. Copies each layer's slice.

  `consumes`: leaves are taken out of `stacked`, plain dictionaries, as they are sliced, so that one is held twice.
  """
  layers: list[dict[str, Any]] = [{} for _ in range(count)]
  for name in list(stacked):
    leaf = stacked.pop(name) if consumes else stacked[name]  # pyright: ignore[reportAttributeAccessIssue]  as is said
    if isinstance(leaf, Mapping):
      parts = slices(leaf, count, consumes=consumes)
    else:
      parts = [jax.tree.map(lambda array, i=i: array[i], leaf) for i in range(count)]
    if consumes:
      jax.block_until_ready(parts)  # until then the leaf is needed
    for layer, part in zip(layers, parts, strict=True):
      layer[name] = part
  return layers
