"""Every program that a session may need, as small requests that use them all, so that a server compiles beforehand."""

from __future__ import annotations

import itertools

from fiat_jax.decoding.engine import Engine, Lengths
from fiat_jax.decoding.lengths import bucket
from fiat_jax.decoding.request import ALTERNATIVES, Request
from fiat_jax.decoding.sampling import GREEDY, Sampling


def batches(engine: Engine, lengths: Lengths) -> list[list[Request]]:
  """Batches for a session of these lengths without a shared prefix, each to be run to its end before the next.

  Prompts of every bucket; copies of a prompt to every number of slots; every way of choosing.
  """
  found = [[_request(count)] for count in _longest_of_buckets(engine, lengths.prompt)]
  copies = [1 << n for n in range((engine.slots - 1).bit_length() + 1)]
  found += [[_request(1)]] + [[_request(1)] * min(count, engine.slots) for count in copies]
  for temperature, alternatives in itertools.product((0.0, 1.0), (0, ALTERNATIVES)):
    sampling = Sampling(temperature=temperature) if temperature else GREEDY
    found.append([Request(tokens=[0], max_new_tokens=1, sampling=sampling, alternatives=alternatives)])
  return found


def _request(count: int) -> Request:
  return Request(tokens=[0] * count, max_new_tokens=1)


def _longest_of_buckets(engine: Engine, longest: int) -> list[int]:
  """The longest prompt of each static length that prompts are padded to."""
  of_width, more = {}, len(engine.virtual)
  shared = more if engine.virtual and engine.prefix(engine.virtual) is not None else 0
  for count in range(1, longest + 1):
    of_width[bucket(len(engine.family.start([0] * (count + more), shared).ids))] = count
  return list(of_width.values())
