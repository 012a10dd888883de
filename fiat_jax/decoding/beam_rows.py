"""The device's side of beam search: a row a prompt, k slots of one static cache a row, and the programs over them.

Shapes: P rows, k beams, B = P · k slots, N new tokens at the most, V vocabulary.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax import sharding
from fiat_jax.decoding.family import Family, Start
from fiat_jax.decoding.request import Request
from fiat_jax.decoding.sampling import Array
from fiat_jax.decoding.slots import CHUNK, laid_out
from fiat_jax.models.bf16 import moved


class Rules(NamedTuple):
  """What programs are compiled for: the model, and whether a row is done once it has k answers."""

  family: Family
  early_stopping: bool


class Paths(NamedTuple):
  """Beams, candidates or answers: n a row.

  Attributes:
    scores: [P, n], -inf where there is none. Of what runs, the log-probability; of an answer, normalised by its length.
    tokens: [P, n, N], -1 behind the last.
    logprobs: [P, n, N].
  """

  scores: jax.Array
  tokens: jax.Array
  logprobs: jax.Array


class Joining(NamedTuple):
  """What G requests bring into their rows beside so many prompt `ids`; arrays [G], fields as in `Rows`."""

  row: np.ndarray
  ids: np.ndarray
  first: np.ndarray
  token: np.ndarray
  limit: np.ndarray


class Rows(NamedTuple):
  """Device state of P rows.

  Attributes:
    cache: the family's own, slots in front: k in turn belong to a row.
    first: [P], the place of the first token that a step reads.
    token: [P, k], the next token of each beam to feed.
    step: [P], how many tokens its beams have chosen.
    limit: [P], how many they may.
    open: [P], whether it is still searched.
    running: beams, the likeliest first.
    ended: answers, the best first.
  """

  cache: Any
  first: jax.Array
  token: jax.Array
  step: jax.Array
  limit: jax.Array
  open: jax.Array
  running: Paths
  ended: Paths


def empty_rows(family: Family, rows: int, beams: int, room: Any, new: int) -> Rows:
  """Closed rows with so much room (`Family.room`) for at most so many new tokens."""

  def closed() -> Rows:
    zero = lambda: jnp.zeros(rows, jnp.int32)  # noqa: E731
    cache, token = family.empty(rows * beams, room), jnp.zeros((rows, beams), jnp.int32)
    paths = lambda: _no_paths(rows, beams, new)  # noqa: E731
    return laid_out(Rows(cache, zero(), token, zero(), zero(), jnp.zeros(rows, bool), paths(), paths()))

  return closed() if sharding.mesh() is None else jax.jit(closed)()


def joining(rows: Sequence[int], starts: Sequence[Start], requests: Sequence[Request]) -> Joining:
  """Arrays of what these requests bring into these rows."""
  ints = lambda values: np.asarray(list(values), np.int32)  # noqa: E731
  return Joining(
    row=ints(rows),
    ids=ints(len(start.ids) for start in starts),
    first=ints(start.place for start in starts),
    token=ints(start.token for start in starts),
    limit=ints(r.max_new_tokens for r in requests),
  )


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def join(rules: Rules, weights, state: Rows, tokens, new: Joining, prefix) -> Rows:
  """Puts prompts, ids [G, S], into their rows: computed once, copied to every beam, of which the first alone runs."""
  beams = state.token.shape[1]
  cache = rules.family.fill(weights, state.cache, tokens, new.ids, new.row * beams, prefix)
  slots = (new.row[:, None] * beams + np.arange(beams)).reshape(-1)
  first = jnp.repeat(new.row * beams, beams)
  cache = jax.tree.map(functools.partial(moved, lambda leaf: leaf.at[slots].set(leaf[first])), cache)
  none = _no_paths(len(new.ids), beams, state.ended.tokens.shape[2])
  put = lambda old, fresh: old.at[new.row].set(fresh)  # noqa: E731
  joined = Rows(
    cache,
    put(state.first, new.first),
    put(state.token, new.token[:, None]),
    put(state.step, 0),
    put(state.limit, new.limit),
    put(state.open, True),
    jax.tree.map(put, state.running, none._replace(scores=none.scores.at[:, 0].set(0.0))),
    jax.tree.map(put, state.ended, none),
  )
  return laid_out(joined)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def advance(rules: Rules, weights, state: Rows, stop, prefix, penalty) -> Rows:
  """Up to `CHUNK` steps, fewer once all rows are done.

  Args:
    stop: ids that end an answer.
    penalty: the power of its length that an answer's log-probability is divided by.
  """

  def one(carry):
    i, state = carry
    tokens = sharding.constrain(state.token.reshape(-1), "slots")
    logits, cache = rules.family.step(weights, state.cache, tokens, _a_beam(state, state.first + state.step), prefix)
    after, parents = _choose(state, jax.nn.log_softmax(logits), stop, penalty, rules.early_stopping)
    sources = jnp.arange(parents.shape[0])[:, None] * parents.shape[1] + parents
    first, new = _a_beam(state, state.first), state.ended.tokens.shape[2]
    return i + 1, after._replace(cache=rules.family.reorder(cache, sources.reshape(-1), first, new, prefix))

  more = lambda carry: (carry[0] < CHUNK) & jnp.any(carry[1].open)  # noqa: E731
  return laid_out(jax.lax.while_loop(more, one, (0, state))[1])


def _choose(state: Rows, logprobs: jax.Array, stop: Array, penalty: Array, early: bool) -> tuple[Rows, jax.Array]:
  """The state after a step that gave logprobs [B, V], but for the cache, and each beam's parent [P, k]."""
  rows, beams = state.token.shape
  length = (state.step + 1)[:, None]
  candidates, parents, tokens = _candidates(state, logprobs.reshape(rows, -1), count=max(2, 1 + stop.shape[0]) * beams)
  ends = jnp.any(tokens[..., None] == stop, axis=-1) | (length == state.limit[:, None])
  answered = ends & (jnp.arange(ends.shape[1]) < beams)
  normal = candidates.scores / length.astype(jnp.float32) ** penalty
  answers = candidates._replace(scores=jnp.where(answered, normal, -jnp.inf))
  ended, _ = _best(jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), state.ended, answers), beams)
  running, picked = _best(candidates._replace(scores=jnp.where(ends, -jnp.inf, candidates.scores)), beams)
  hoped = running.scores[:, 0] / length[:, 0].astype(jnp.float32) ** penalty
  still = (hoped > jnp.min(ended.scores, axis=1)) & (length[:, 0] < state.limit)
  if early:
    still &= ~jnp.all(jnp.isfinite(ended.scores), axis=1)
  token, parents = (jnp.take_along_axis(of, picked, axis=1) for of in (tokens, parents))
  after = Rows(state.cache, state.first, token, state.step + 1, state.limit, still, running, ended)
  keep = lambda old, fresh: jnp.where(state.open.reshape(-1, *[1] * (fresh.ndim - 1)), fresh, old)  # noqa: E731
  after = jax.tree.map(keep, state._replace(cache=None), after._replace(cache=None))
  return after, jnp.where(state.open[:, None], parents, jnp.arange(beams))


def _candidates(state: Rows, logprobs: jax.Array, count: int) -> tuple[Paths, jax.Array, jax.Array]:
  """The likeliest continuations of all beams, from logprobs [P, k · V], with their parents and last tokens [P, n]."""
  vocabulary = logprobs.shape[1] // state.token.shape[1]
  so_far = jnp.repeat(state.running.scores, vocabulary, axis=1)
  totals = jnp.where(jnp.isfinite(so_far), so_far + logprobs, -jnp.inf)
  scores, index = jax.lax.top_k(totals, min(count, totals.shape[1]))
  parents, tokens = index // vocabulary, index % vocabulary
  chosen = jnp.take_along_axis(logprobs, index, axis=1)
  _, *before = _taken(state.running, parents)
  here = jnp.arange(state.running.tokens.shape[2]) == state.step[:, None, None]
  paths = (jnp.where(here, new[..., None], old) for new, old in zip((tokens, chosen), before, strict=True))
  return Paths(scores, *paths), parents, tokens


def _best(paths: Paths, count: int) -> tuple[Paths, jax.Array]:
  """The paths of the highest scores, in order, and which they were [P, count]."""
  picked = jax.lax.top_k(paths.scores, count)[1]
  return _taken(paths, picked), picked


def _taken(paths: Paths, which: jax.Array) -> Paths:
  take = lambda leaf: jnp.take_along_axis(leaf, which.reshape(*which.shape, *[1] * (leaf.ndim - 2)), axis=1)  # noqa: E731
  return jax.tree.map(take, paths)


def _a_beam(state: Rows, of_rows: jax.Array) -> jax.Array:
  """Values [P] of rows as those of their slots [B]."""
  return jnp.repeat(of_rows, state.token.shape[1])


def _no_paths(rows: int, count: int, new: int) -> Paths:
  shape = (rows, count, new)
  return Paths(jnp.full(shape[:2], -jnp.inf), jnp.full(shape, -1, jnp.int32), jnp.zeros(shape))
