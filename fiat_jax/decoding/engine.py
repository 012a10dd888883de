"""The engine that decodes everything: slots over one static cache, prefill by length bucket, a jitted multi-token loop.

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

from fiat_jax.decoding.sampling import GREEDY, Array, Sampling, SlotSampling, choose
from fiat_jax.models import decoder
from fiat_jax.models.attention import KV, after

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
  """What G requests bring into their slots beside keys and values; arrays [G], fields as in `Slots`."""

  slot: Array
  length: Array
  last: Array
  left: Array
  sampling: SlotSampling


class Slots(NamedTuple):
  """Device state of B slots over a cache of S positions.

  Attributes:
    cache: keys and values of each layer, [B, K, S, head_dim].
    length: [B], how many tokens of the slot are in the cache.
    token: [B], the next token to feed, not in the cache yet.
    left: [B], new tokens still allowed; 0 is an idle slot.
    sampling: how each slot chooses.
  """

  cache: list[KV]
  length: jax.Array
  token: jax.Array
  left: jax.Array
  sampling: SlotSampling


def bucket(length: int) -> int:
  """The static length that `length` is padded to: few to an octave, so that few programs are compiled."""
  octave = max(64, 1 << (max(length, 1) - 1).bit_length())
  step = max(octave // 8, 32)
  return max(64, -(-length // step) * step)


class Engine:
  """Decodes requests with one model.

  Args:
    model: the module.
    weights: unstacked (`decoder.unstack`).
    stop_ids: tokens that end a completion.
    slots: requests decoded side by side.
  """

  def __init__(self, model: decoder.Decoder, weights: Mapping[str, Any], *, stop_ids: Sequence[int], slots: int = 16):
    self.model, self.weights, self.slots = model, weights, slots
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
    longest = max(len(r.tokens) + r.max_new_tokens for r in requests)
    state = _empty_slots(self.model.config, self.slots, -(-longest // 64) * 64)
    prefix = _shared_prefix(self.model, self.weights, requests[0].tokens[:shared]) if shared else None
    waiting = collections.deque(sorted(range(len(requests)), key=lambda n: -len(requests[n].tokens)))
    busy: dict[int, int] = {}
    while waiting or busy:
      free = [slot for slot in range(self.slots) if slot not in busy]
      joining = {slot: waiting.popleft() for slot in free[: len(waiting)]}
      for slots in _groups(joining, requests, shared):
        state = self._join(state, slots, [requests[joining[slot]] for slot in slots], prefix)
      busy |= joining
      any_sampled = any(requests[n].sampling.temperature > 0 for n in busy.values())
      state, tokens, logprobs = _decode(self.model, self.weights, state, self._stop, any_sampled)
      tokens, logprobs, left = jax.device_get((tokens, logprobs, state.left))
      for slot, number in list(busy.items()):
        self._collect(done[number], tokens[slot], logprobs[slot])
        if left[slot] == 0:
          del busy[slot]
          if on_done:
            on_done(number, done[number])
    return done

  def _join(self, state: Slots, slots: Sequence[int], requests: Sequence[Request], prefix: list[KV] | None) -> Slots:
    before = prefix[0].v.shape[2] if prefix else 0
    tokens = np.zeros((len(requests), _room(requests[0], before)), np.int32)
    for row, request in zip(tokens, requests, strict=True):
      own = request.tokens[before:-1]
      row[: len(own)] = own
    of = lambda get, kind: np.asarray([get(r) for r in requests], kind)  # noqa: E731
    new = Joining(
      slot=np.asarray(slots, np.int32),
      length=of(lambda r: len(r.tokens) - 1, np.int32),
      last=of(lambda r: r.tokens[-1], np.int32),
      left=of(lambda r: r.max_new_tokens, np.int32),
      sampling=SlotSampling(
        of(lambda r: r.sampling.temperature, np.float32),
        of(lambda r: r.sampling.top_p, np.float32),
        of(lambda r: r.sampling.seed, np.int32),
      ),
    )
    return _prefill(self.model, self.weights, state, tokens, new, prefix)

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


def _room(request: Request, shared: int) -> int:
  """How many places the request's prefill is padded to: all of its tokens but the shared ones and the last."""
  return bucket(len(request.tokens) - shared - 1)


def _groups(joining: Mapping[int, int], requests: Sequence[Request], shared: int) -> list[list[int]]:
  """The joining slots by bucket, `GROUP` a call. Three fill up a group with one of them twice; fewer go alone."""
  by_room: dict[int, list[int]] = {}
  for slot, number in joining.items():
    by_room.setdefault(_room(requests[number], shared), []).append(slot)
  groups = []
  for slots in by_room.values():
    while len(slots) >= GROUP - 1:
      groups.append((slots[:GROUP] * 2)[:GROUP])
      slots = slots[GROUP:]
    groups += [[slot] for slot in slots]
  return groups


def _empty_slots(config: decoder.DecoderConfig, slots: int, length: int) -> Slots:
  keys, values = (config.head_dim, length), (length, config.head_dim)
  empty = lambda shape: jnp.zeros((slots, config.kv_heads, *shape), config.compute_dtype)  # noqa: E731
  cache = [KV(empty(keys), empty(values)) for _ in range(config.layers)]
  length_, token, left, seed = (jnp.zeros(slots, jnp.int32) for _ in range(4))
  return Slots(cache, length_, token, left, SlotSampling(jnp.zeros(slots), jnp.ones(slots), seed))


def _shared_prefix(model, weights, tokens: Sequence[int]) -> list[KV]:
  """Keys and values of the tokens that all requests begin with, [1, …] a layer."""
  return _prefix(model, weights, np.asarray([tokens], np.int32))


@functools.partial(jax.jit, static_argnums=0)
def _prefix(model, weights, tokens) -> list[KV]:
  mask = jnp.tril(jnp.ones((1, tokens.shape[1], tokens.shape[1]), bool))
  return decoder.cached_hidden(model, weights, tokens, jnp.arange(tokens.shape[1])[None], mask)[1]


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _prefill(model, weights, state: Slots, tokens, new: Joining, prefix) -> Slots:
  """Puts prompts into their slots: all but the last token into the cache, the last one next to be fed."""
  (rows, count), before = tokens.shape, prefix[0].v.shape[2] if prefix else 0
  mask = jnp.tril(jnp.ones((1, count, before + count), bool), before)
  positions = before + jnp.arange(count)[None]
  _, filled = decoder.cached_hidden(model, weights, tokens, positions, mask, prefix=prefix)
  filled = [after(prefix[n] if prefix else None, kv) for n, kv in enumerate(filled)]
  room = state.cache[0].v.shape[2]
  filled = [KV(kv.k[..., :room], kv.v[:, :, :room]) for kv in filled]

  def put(cache, fresh):
    for row in range(rows):
      cache = jax.lax.dynamic_update_slice(cache, fresh[row : row + 1], (new.slot[row], 0, 0, 0))
    return cache

  return Slots(
    jax.tree.map(put, state.cache, filled),
    state.length.at[new.slot].set(new.length),
    state.token.at[new.slot].set(new.last),
    state.left.at[new.slot].set(new.left),
    jax.tree.map(lambda old, fresh: old.at[new.slot].set(fresh), state.sampling, new.sampling),
  )


@functools.partial(jax.jit, static_argnums=(0, 4), donate_argnums=2)
def _decode(model, weights, state: Slots, stop, any_sampled: bool) -> tuple[Slots, jax.Array, jax.Array]:
  """Up to `CHUNK` steps, fewer once all slots are idle: tokens [B, CHUNK], -1 where idle, and log-probabilities."""
  slots, room = state.length.shape[0], state.cache[0].v.shape[2]
  out = (jnp.full((slots, CHUNK), -1, jnp.int32), jnp.zeros((slots, CHUNK)))

  def more(carry):
    i, state, _ = carry
    return (i < CHUNK) & jnp.any(state.left > 0)

  def one(carry):
    i, state, (tokens, logprobs) = carry
    active = state.left > 0
    write = jnp.minimum(state.length, room - 1)[:, None]
    mask = jnp.arange(room)[None, None, :] <= write[:, :, None]
    hidden, cache = decoder.cached_hidden(model, weights, state.token[:, None], write, mask, state.cache, write)
    logits = decoder.cached_logits(model, weights, hidden[:, 0])
    token = choose(logits, state.sampling, state.length, any_sampled=any_sampled)
    logprob = jnp.take_along_axis(logits, token[:, None], -1)[:, 0] - jax.nn.logsumexp(logits, axis=-1)
    tokens = tokens.at[:, i].set(jnp.where(active, token, -1))
    logprobs = logprobs.at[:, i].set(jnp.where(active, logprob, 0.0))
    stopped = jnp.any(token[:, None] == stop[None], axis=-1)
    left = jnp.where(active & ~stopped, state.left - 1, 0)
    state = Slots(cache, state.length + active, jnp.where(active, token, 0), left, state.sampling)
    return i + 1, state, (tokens, logprobs)

  _, state, (tokens, logprobs) = jax.lax.while_loop(more, one, (0, state, out))
  return state, tokens, logprobs
