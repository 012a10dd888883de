"""What prompts begin with in common, all of them or those that share their exemplars."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

from fiat_jax.reasoning.request import Request

SMALLEST = 8  # prompts with one beginning that are a group of their own; all others are one together
CHUNK = 1024  # prompts in memory at a time


@dataclasses.dataclass(frozen=True)
class Prefix:
  """Of a group of prompts: the ids that all begin with, never the whole of one, and the most ids of any."""

  ids: Sequence[int]
  longest: int


class Prefixes:
  """Groups of prompts by how they begin. They follow from the prompts alone, not from their order.

  Args:
    requests: gone through twice; samples of one prompt stand side by side.
    encode: ids of prompts.

  Attributes:
    groups: by name.
  """

  def __init__(self, requests: Sequence[Request], encode: Callable[[Sequence[str]], Sequence[Sequence[int]]]):
    heads = collections.Counter(_head(request) for request in requests if request.sample == 0)
    self._own = {head for head, count in heads.items() if count >= SMALLEST}
    self.groups: Mapping[bytes, Prefix] = self._found(requests, encode)

  def group_of(self, request: Request) -> bytes:
    """The name of its group."""
    head = _head(request)
    return head if head in self._own else b""

  def _found(
    self, requests: Iterable[Request], encode: Callable[[Sequence[str]], Sequence[Sequence[int]]]
  ) -> dict[bytes, Prefix]:
    first: dict[bytes, Sequence[int]] = {}
    shared: dict[bytes, int] = {}
    longest: collections.Counter[bytes] = collections.Counter()
    single = (request for request in requests if request.sample == 0)
    while chunk := list(itertools.islice(single, CHUNK)):
      for request, ids in zip(chunk, encode([request.prompt for request in chunk]), strict=True):
        group = self.group_of(request)
        longest[group] = max(longest[group], len(ids))
        if group not in first:
          first[group] = ids
        else:
          shared[group] = _common(first[group], ids, shared.get(group, len(first[group]) - 1))
    return {group: Prefix(list(ids[: shared.get(group, 0)]), longest[group]) for group, ids in first.items()}


def _head(request: Request) -> bytes:
  return hashlib.sha256(request.prompt[: request.head].encode()).digest()[:16]


def _common(first: Sequence[int], ids: Sequence[int], most: int) -> int:
  """How many of the `most` first ids both have; never the whole of one."""
  most = min(most, len(ids) - 1)
  return next((n for n in range(most) if ids[n] != first[n]), most)
