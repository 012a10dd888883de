"""The same requests in other company: added to a session in an order of their own, some at a time while others are
decoded, so that slots, neighbours and the time of joining differ.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
import pytest

from fiat_jax.decoding import slots as device
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Completion, Request

TOGETHER = 7  # added between two calls of the device, at the most


class Seat(NamedTuple):
  """Where a request was decoded: its slot, and what stood in each slot as it joined."""

  slot: int
  beside: tuple[tuple[int, int], ...]


class Run(NamedTuple):
  """One entry a request, in the requests' own order."""

  answers: list[Completion]
  seats: list[Seat]


def decoded(engine: Engine, requests: Sequence[Request], order: int, shared: int = 0) -> Run:
  """The requests shuffled by the seed `order`. Each has a seed of its own for sampling, by which its slot is known."""
  draw = random.Random(order)
  waiting = draw.sample(range(len(requests)), k=len(requests))
  session, numbers, answers = Session(engine, Lengths.of(requests), requests[0].tokens[:shared]), {}, {}
  with pytest.MonkeyPatch.context() as patch:
    seats = _watched(patch)
    while waiting or session:
      for _ in range(min(len(waiting), draw.randint(0 if session else 1, TOGETHER))):
        n = waiting.pop()
        numbers[session.add(requests[n])] = n
      answers |= {numbers[number]: answer for number, answer in session.advance()}
  return Run([answers[n] for n in range(len(requests))], [seats[request.sampling.seed] for request in requests])


def caches(engine: Engine, requests: Sequence[Request], lengths: Lengths) -> list[list[np.ndarray]]:
  """What stands in the cache of each request's slot when the first token is decoded; all join at once."""
  session, seen = Session(engine, lengths), []
  decode = device.decode
  for request in requests:
    session.add(request)
  with pytest.MonkeyPatch.context() as patch:
    seats = _watched(patch)
    patch.setattr(device, "decode", lambda *a: seen.append(jax.tree.map(np.array, a[2].cache)) or decode(*a))
    session.advance()
  slots = [seats[request.sampling.seed].slot for request in requests]
  return [[leaf[slot] for leaf in jax.tree.leaves(seen[0])] for slot in slots]


def _watched(patch: pytest.MonkeyPatch) -> dict[int, Seat]:
  """Filled with each request's seat as it joins."""
  seats: dict[int, Seat] = {}
  standing: dict[int, int] = {}
  joining = device.joining

  def watch(slots, starts, requests):
    standing.update((slot, request.sampling.seed) for slot, request in zip(slots, requests, strict=True))
    beside = tuple(sorted(standing.items()))
    seats.update((request.sampling.seed, Seat(slot, beside)) for slot, request in zip(slots, requests, strict=True))
    return joining(slots, starts, requests)

  patch.setattr(device, "joining", watch)
  return seats


def check_orders(engine: Engine, requests: Sequence[Request], orders: int, shared: int = 0) -> None:
  """What `generate` answers is what each request gets in any company: the tokens, and how likely each of them is."""
  expected = engine.generate(requests, shared=shared)
  assert len({tuple(answer.tokens) for answer in expected}) > len(requests) / 2, "answers that are alike show nothing"
  runs = [decoded(engine, requests, order, shared) for order in range(orders)]
  for seats in zip(*(run.seats for run in runs), strict=True):
    assert len({seat.slot for seat in seats}) > 1, "a request had the same slot in every order"
    assert len({seat.beside for seat in seats}) > orders / 2, "a request had the same neighbours"
  for run in runs:
    assert [answer.tokens for answer in run.answers] == [answer.tokens for answer in expected]
    assert [answer.logprobs for answer in run.answers] == [answer.logprobs for answer in expected]
