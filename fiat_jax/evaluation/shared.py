"""Rows whose prompts begin alike, as those of one subject that show the same shots: what is common is computed once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fiat_jax.data.batches import Shard

LEAST = 64  # ids by which a beginning is known; what is shorter is not worth a pass of its own


class Group(NamedTuple):
  """Numbers of rows, and how many first ids their prompts share, never the whole of one."""

  rows: list[int]
  shared: int


def grouped(shard: Shard) -> list[Group]:
  """Every row in one group; those of the last share nothing that is worth it.

  Rows that begin like others and go on otherwise earlier than most, as where some shots were left out, are in it too.
  """
  beginnings: dict[bytes, list[int]] = {}
  alone: list[int] = []
  for number in range(len(shard)):
    ids = shard[number].inputs
    (beginnings.setdefault(ids[:LEAST].tobytes(), []) if len(ids) > LEAST else alone).append(number)
  groups = []
  for rows in beginnings.values():
    middle = sorted(rows, key=lambda number: shard[number].inputs.tolist())[len(rows) // 2]  # is like most
    first = shard[middle].inputs
    common = np.array([_common(first, shard[number].inputs) for number in rows])
    shared = max(set(common.tolist()), key=lambda count: count * (np.count_nonzero(common >= count) - 1))
    together = common >= shared
    if shared < LEAST or np.count_nonzero(together) < 2:
      together[:] = False
    groups.append(Group([number for number, mine in zip(rows, together, strict=True) if mine], int(shared)))
    alone += [number for number, mine in zip(rows, together, strict=True) if not mine]
  return [*(group for group in groups if group.rows), *([Group(sorted(alone), 0)] if alone else [])]


def _common(one: np.ndarray, other: np.ndarray) -> int:
  """How many first ids both have, but for the last of the shorter."""
  most = min(len(one), len(other)) - 1
  differs = np.flatnonzero(one[:most] != other[:most])
  return int(differs[0]) if differs.size else most
