"""The engine that decodes everything: slots over one static cache, prefill by length bucket, a jitted multi-token loop.

What a prompt leaves in the cache and how a step reads it is the model family's (`family.py`).

Requests join a slot when one is free and leave it when they end. For a fixed number of slots and cache length, a
request gets the same tokens whatever its slot and neighbours: rows do not mix, and the length that a prompt is padded
to follows from the prompt alone. Up to `GROUP` prompts are prefilled at a time; on a CPU that changes no bit.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.decoding.family import Family, Start, family_of
from fiat_jax.decoding.lengths import bucket
from fiat_jax.decoding.sampling import GREEDY, Array, Sampling, SlotSampling, choose
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.t5 import T5

CHUNK = 8  # decode steps between two looks of the host
GROUP = 4  # prompts prefilled in one call: each call passes over all weights


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """A prompt's ids, how many new tokens at the most, how to choose them."""

  tokens: Sequence[int]
  max_new_tokens: int
  sampling: Sampling = GREEDY


@dataclasses.dataclass(kw_only=True)
class Completion:
  """New token ids without the end mark, the summed log-probability of all that was chosen, why it ended."""

  tokens: list[int] = dataclasses.field(default_factory=list)
  logprob: float = 0.0
  finish: Literal["stop", "length"] = "length"


class Joining(NamedTuple):
  """What G requests bring into their slots beside so many prompt `ids`; arrays [G], fields as in `Slots`."""

  slot: Array
  ids: Array
  place: Array
  token: Array
  left: Array
  sampling: SlotSampling


class Slots(NamedTuple):
  """Device state of B slots.

  Attributes:
    cache: the family's own, slots in front.
    place: [B], where the next token to feed goes: how many the decoder has read.
    token: [B], the next token to feed, not in the cache yet.
    left: [B], new tokens still allowed; 0 is an idle slot.
    sampling: how each slot chooses.
  """

  cache: Any
  place: jax.Array
  token: jax.Array
  left: jax.Array
  sampling: SlotSampling


class Engine:
  """Decodes requests with one model.

  Args:
    model: the module, of either family.
    weights: unstacked (`decoder.unstack`, `t5_cached.unstack`).
    stop_ids: tokens that end a completion.
    slots: requests decoded side by side.
  """

  def __init__(self, model: Decoder | T5, weights: Mapping[str, Any], *, stop_ids: Sequence[int], slots: int = 16):
    self.model, self.weights, self.slots = model, weights, slots
    self._family = family_of(model)
    self._stop = jnp.asarray(sorted(stop_ids) or [-1], jnp.int32)

  def generate(
    self, requests: Sequence[Request], on_done: Callable[[int, Completion], None] | None = None, *, shared: int = 0
  ) -> list[Completion]:
    """Completions in the order of the requests.

    Args:
      on_done: called with a request's number and completion as it ends.
      shared: this many first tokens are the same in all requests, and not the whole of any: they are computed once.
    """
    done = [Completion() for _ in requests]
    if not requests:
      return done
    prefix = self._family.share(self.weights, requests[0].tokens[:shared]) if shared else None
    shared = 0 if prefix is None else shared
    state = empty_slots(self._family, self.slots, requests, shared)
    starts = [self._family.start(r.tokens, shared) for r in requests]
    waiting = collections.deque(sorted(range(len(requests)), key=lambda n: -len(requests[n].tokens)))
    busy: dict[int, int] = {}
    while waiting or busy:
      free = [slot for slot in range(self.slots) if slot not in busy]
      joining = {slot: waiting.popleft() for slot in free[: len(waiting)]}
      for slots in _groups(joining, starts):
        numbers = [joining[slot] for slot in slots]
        new = _joining(slots, [starts[n] for n in numbers], [requests[n] for n in numbers])
        tokens = _padded([starts[n].ids for n in numbers])
        state = _prefill(self._family, self.weights, state, tokens, new, prefix)
      busy |= joining
      any_sampled = any(requests[n].sampling.temperature > 0 for n in busy.values())
      state, tokens, logprobs = _decode(self._family, self.weights, state, self._stop, prefix, any_sampled)
      tokens, logprobs, left = jax.device_get((tokens, logprobs, state.left))
      for slot, number in list(busy.items()):
        self._collect(done[number], tokens[slot], logprobs[slot])
        if left[slot] == 0:
          del busy[slot]
          if on_done:
            on_done(number, done[number])
    return done

  def _collect(self, completion: Completion, tokens: np.ndarray, logprobs: np.ndarray) -> None:
    taken = tokens >= 0
    completion.logprob += float(logprobs[taken].sum())
    for token in tokens[taken].tolist():
      if token in self._stop_ids:
        completion.finish = "stop"
      else:
        completion.tokens.append(token)

  @functools.cached_property
  def _stop_ids(self) -> frozenset[int]:
    return frozenset(np.asarray(self._stop).tolist())


def _groups(joining: Mapping[int, int], starts: Sequence[Start]) -> list[list[int]]:
  """The joining slots by bucket, `GROUP` a call. Three fill up a group with one of them twice; fewer go alone."""
  by_width: dict[int, list[int]] = {}
  for slot, number in joining.items():
    by_width.setdefault(bucket(len(starts[number].ids)), []).append(slot)
  groups = []
  for slots in by_width.values():
    while len(slots) >= GROUP - 1:
      groups.append((slots[:GROUP] * 2)[:GROUP])
      slots = slots[GROUP:]
    groups += [[slot] for slot in slots]
  return groups


def _padded(prompts: Sequence[Sequence[int]]) -> np.ndarray:
  """Prompts of one bucket as [G, S]."""
  tokens = np.zeros((len(prompts), bucket(len(prompts[0]))), np.int32)
  for row, ids in zip(tokens, prompts, strict=True):
    row[: len(ids)] = ids
  return tokens


def _joining(slots: Sequence[int], starts: Sequence[Start], requests: Sequence[Request]) -> Joining:
  ints = lambda values: np.asarray(list(values), np.int32)  # noqa: E731
  floats = lambda values: np.asarray(list(values), np.float32)  # noqa: E731
  return Joining(
    slot=ints(slots),
    ids=ints(len(start.ids) for start in starts),
    place=ints(start.place for start in starts),
    token=ints(start.token for start in starts),
    left=ints(r.max_new_tokens for r in requests),
    sampling=SlotSampling(
      floats(r.sampling.temperature for r in requests),
      floats(r.sampling.top_p for r in requests),
      ints(r.sampling.seed for r in requests),
    ),
  )


def empty_slots(family: Family, slots: int, requests: Sequence[Request], shared: int) -> Slots:
  """Idle slots with room for each of the requests behind what they share."""
  room = family.room(
    max(len(r.tokens) for r in requests) - shared,
    max(len(r.tokens) + r.max_new_tokens for r in requests) - shared,
    max(r.max_new_tokens for r in requests),
  )
  place, token, left, seed = (jnp.zeros(slots, jnp.int32) for _ in range(4))
  sampling = SlotSampling(jnp.zeros(slots), jnp.ones(slots), seed)
  return Slots(family.empty(slots, room), place, token, left, sampling)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _prefill(family: Family, weights, state: Slots, tokens, new: Joining, prefix) -> Slots:
  """Puts prompts into their slots."""
  return Slots(
    family.fill(weights, state.cache, tokens, new.ids, new.slot, prefix),
    state.place.at[new.slot].set(new.place),
    state.token.at[new.slot].set(new.token),
    state.left.at[new.slot].set(new.left),
    jax.tree.map(lambda old, fresh: old.at[new.slot].set(fresh), state.sampling, new.sampling),
  )


@functools.partial(jax.jit, static_argnums=(0, 5), donate_argnums=2)
def _decode(
  family: Family, weights, state: Slots, stop, prefix, any_sampled: bool
) -> tuple[Slots, jax.Array, jax.Array]:
  """Up to `CHUNK` steps, fewer once all slots are idle: tokens [B, CHUNK], -1 where idle, and log-probabilities."""
  slots = state.place.shape[0]
  out = (jnp.full((slots, CHUNK), -1, jnp.int32), jnp.zeros((slots, CHUNK)))

  def more(carry):
    i, state, _ = carry
    return (i < CHUNK) & jnp.any(state.left > 0)

  def one(carry):
    i, state, (tokens, logprobs) = carry
    active = state.left > 0
    logits, cache = family.step(weights, state.cache, state.token, state.place, prefix)
    token = choose(logits, state.sampling, state.place, any_sampled=any_sampled)
    logprob = jnp.take_along_axis(logits, token[:, None], -1)[:, 0] - jax.nn.logsumexp(logits, axis=-1)
    tokens = tokens.at[:, i].set(jnp.where(active, token, -1))
    logprobs = logprobs.at[:, i].set(jnp.where(active, logprob, 0.0))
    stopped = jnp.any(token[:, None] == stop[None], axis=-1)
    left = jnp.where(active & ~stopped, state.left - 1, 0)
    state = Slots(cache, state.place + active, jnp.where(active, token, 0), left, state.sampling)
    return i + 1, state, (tokens, logprobs)

  _, state, (tokens, logprobs) = jax.lax.while_loop(more, one, (0, state, out))
  return state, tokens, logprobs
