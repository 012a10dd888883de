"""Which prompts are prefilled in one call."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from fiat_jax.decoding.family import Start
from fiat_jax.decoding.lengths import bucket

GROUP = 4  # prompts prefilled in one call: each call passes over all weights


def group_size() -> int:
  """The most prompts that are prefilled in one call."""
  return GROUP if jax.default_backend() == "cpu" else 1


def groups(starts: Mapping[int, Start]) -> list[list[int]]:
  """Slots by their prompts' bucket, `GROUP` a call. Three fill up a group with one of them twice; fewer go alone."""
  group = group_size()
  by_width: dict[int, list[int]] = {}
  for slot, start in starts.items():
    by_width.setdefault(bucket(len(start.ids)), []).append(slot)
  found = []
  for slots in by_width.values():
    while len(slots) >= max(1, group - 1):
      found.append((slots[:group] * 2)[:group])
      slots = slots[group:]
    found += [[slot] for slot in slots]
  return found
