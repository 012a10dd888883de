"""The device's side of the engine: slots over one static cache, and the programs that fill, copy and advance them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax import sharding
from fiat_jax.decoding.family import Family, Start
from fiat_jax.decoding.lengths import bucket
from fiat_jax.decoding.request import ALTERNATIVES, Request
from fiat_jax.decoding.sampling import Array, SlotSampling, choose
from fiat_jax.models.bf16 import moved

CHUNK = 8  # decode steps between two looks of the host


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


class Chosen(NamedTuple):
  """What a call of `decode` chose, C steps.

  Attributes:
    tokens: [B, C], -1 where a slot was idle.
    logprobs: [B, C].
    likely: [B, C, N], the N most likely tokens, N 0 where nobody asked.
    likely_logprobs: [B, C, N].
  """

  tokens: Array
  logprobs: Array
  likely: Array
  likely_logprobs: Array


def empty_slots(family: Family, slots: int, room: Any) -> Slots:
  """Idle slots with so much room (`Family.room`)."""
  if sharding.mesh() is None:
    return idle_slots(family, slots, room)
  return jax.jit(lambda: laid_out(idle_slots(family, slots, room)))()


def idle_slots(family: Family, slots: int, room: Any) -> Slots:
  """The same, wherever they come to lie."""
  place, token, left, seed = (jnp.zeros(slots, jnp.int32) for _ in range(4))
  return Slots(family.empty(slots, room), place, token, left, SlotSampling(jnp.zeros(slots), jnp.ones(slots), seed))


def laid_out(state: Any) -> Any:
  """Over a mesh, the cache's slots and heads are dealt out; all else, which the host looks at, is whole everywhere."""
  cache = jax.tree.map(lambda x: sharding.constrain(x, "slots", "kv") if x.ndim > 1 else x, state.cache)
  return jax.tree.map(sharding.constrain, state._replace(cache=None))._replace(cache=cache)


def padded(ids: Sequence[int]) -> np.ndarray:
  """A prompt as [1, S]; S follows from its length alone."""
  tokens = np.zeros((1, bucket(len(ids))), np.int32)
  tokens[0, : len(ids)] = ids
  return tokens


def joining(slots: Sequence[int], starts: Sequence[Start], requests: Sequence[Request]) -> Joining:
  """Arrays of what these requests bring into these slots."""
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


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def prefill(family: Family, weights, state: Slots, tokens, new: Joining, prefix) -> Slots:
  """Puts prompts, ids [G, S], into their slots. A prompt's bits depend on G: the engine gives one at a time."""
  return _join(state, family.fill(weights, state.cache, tokens, new.ids, new.slot, prefix), new)


@functools.partial(jax.jit, donate_argnums=0)
def copy(state: Slots, sources: Array, new: Joining) -> Slots:
  """Puts requests into slots whose prompts stand in the slots `sources` [G] already."""
  put = functools.partial(moved, lambda leaf: leaf.at[new.slot].set(leaf[sources]))
  return _join(state, jax.tree.map(put, state.cache), new)


def _join(state: Slots, cache: Any, new: Joining) -> Slots:
  joined = Slots(
    cache,
    state.place.at[new.slot].set(new.place),
    state.token.at[new.slot].set(new.token),
    state.left.at[new.slot].set(new.left),
    jax.tree.map(lambda old, fresh: old.at[new.slot].set(fresh), state.sampling, new.sampling),
  )
  return laid_out(joined)


@functools.partial(jax.jit, static_argnums=(0, 6, 7), donate_argnums=2)
def decode(
  family: Family, weights, state: Slots, kept, stop, prefix, any_sampled: bool, any_alternatives: bool
) -> tuple[Slots, Chosen]:
  """Up to `CHUNK` steps, fewer once all slots are idle.

  Args:
    kept: [B], false where a request was dropped.
    stop: ids that end a request.
  """
  slots, alternatives = state.place.shape[0], ALTERNATIVES if any_alternatives else 0
  likely = (slots, CHUNK, alternatives)
  out = Chosen(
    jnp.full(likely[:2], -1, jnp.int32), jnp.zeros(likely[:2]), jnp.zeros(likely, jnp.int32), jnp.zeros(likely)
  )

  def more(carry):
    i, state, _ = carry
    return (i < CHUNK) & jnp.any(state.left > 0)

  def one(carry):
    i, state, out = carry
    active = state.left > 0
    tokens = sharding.constrain(state.token, "slots")
    logits, cache = family.step(weights, state.cache, tokens, state.place, prefix)
    token = choose(logits, state.sampling, state.place, any_sampled=any_sampled)
    total = jax.nn.logsumexp(logits, axis=-1)
    logprob = jnp.take_along_axis(logits, token[:, None], -1)[:, 0] - total
    out = out._replace(
      tokens=out.tokens.at[:, i].set(jnp.where(active, token, -1)),
      logprobs=out.logprobs.at[:, i].set(jnp.where(active, logprob, 0.0)),
    )
    if alternatives:
      best, ids = jax.lax.top_k(logits, alternatives)
      out = out._replace(
        likely=out.likely.at[:, i].set(ids), likely_logprobs=out.likely_logprobs.at[:, i].set(best - total[:, None])
      )
    stopped = jnp.any(token[:, None] == stop[None], axis=-1)
    left = jnp.where(active & ~stopped, state.left - 1, 0)
    state = Slots(cache, state.place + active, jnp.where(active, token, 0), left, state.sampling)
    return i + 1, state, out

  state = state._replace(left=jnp.where(kept, state.left, 0))
  _, state, out = jax.lax.while_loop(more, one, (0, state, out))
  return laid_out(state), jax.tree.map(sharding.constrain, out)
