"""Choosing the next token: greedy, or seeded sampling that does not depend on a request's neighbours."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.errors import UserError

Array = jax.Array | np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
  """Temperature 0 is greedy; `top_p` keeps the smallest set of tokens with at least that probability."""

  temperature: float = 0.0
  top_p: float = 1.0
  seed: int = 0

  def __post_init__(self):
    if self.temperature < 0 or not 0 < self.top_p <= 1:
      raise UserError(f"temperature {self.temperature}, top_p {self.top_p}: give at least 0, and more than 0 up to 1")


GREEDY = Sampling()


class SlotSampling(NamedTuple):
  """The same for every slot, as arrays [B]."""

  temperature: Array
  top_p: Array
  seed: Array


def choose(logits: jax.Array, slots: SlotSampling, positions: jax.Array, *, any_sampled: bool) -> jax.Array:
  """Next token ids [B] from f32 logits [B, V]; `any_sampled` false leaves sampling out of the program.

  The key is (request's seed, position), so that the same request draws the same tokens in any slot and company.
  """
  greedy = _first_maximum(logits)
  if not any_sampled:
    return greedy
  warm = jnp.where(slots.temperature > 0, slots.temperature, 1.0)
  drawn = jax.vmap(_draw)(logits / warm[:, None], slots.top_p, slots.seed, positions)
  return jnp.where(slots.temperature > 0, drawn, greedy)


def _first_maximum(logits: Array) -> jax.Array:
  """argmax over the last axis, [B, V] → [B], in two stages: on a CPU an eighth of the time of `jnp.argmax`."""
  blocks = jnp.pad(logits, ((0, 0), (0, -logits.shape[1] % 128)), constant_values=-jnp.inf)
  blocks = blocks.reshape(logits.shape[0], -1, 128)
  best = jnp.argmax(blocks.max(axis=-1), axis=-1)
  within = jnp.argmax(jnp.take_along_axis(blocks, best[:, None, None], axis=1)[:, 0], axis=-1)
  return (best * 128 + within).astype(jnp.int32)


def _draw(logits: Array, top_p: Array, seed: Array, position: Array) -> jax.Array:
  order = jnp.argsort(logits, descending=True)
  probabilities = jax.nn.softmax(logits[order])
  before = jnp.cumsum(probabilities) - probabilities
  kept = jnp.where(before < top_p, logits[order], -jnp.inf)
  key = jax.random.fold_in(jax.random.key(seed), position)
  return order[jax.random.categorical(key, kept)].astype(jnp.int32)
