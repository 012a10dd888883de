"""What the engine asks of a model family, so that it decodes with either without knowing which."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from fiat_jax.decoding.label_rows import Shared
from fiat_jax.decoding.sampling import Array
from fiat_jax.models.adapters import PROMPT, prompt_ids
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.t5 import T5

Weights = Mapping[str, Any]


class Start(NamedTuple):
  """How a request begins: ids that are computed at once, then the token that the first step reads, and its place."""

  ids: Sequence[int]
  token: int
  place: int


class Family(Protocol):
  """A model as the engine sees it. It can be hashed: programs are compiled once for each.

  `fill` and `step` are traced; what they keep for each slot (`cache`) is theirs alone, arrays with slots in front.
  """

  def room(self, longest_prompt: int, longest_whole: int, longest_new: int) -> Hashable:
    """Static sizes of a cache for requests of at most so many tokens: prompt, prompt and new ones, new ones.

    What is shared is not counted in.
    """
    ...

  def empty(self, slots: int, room: Any) -> Any:
    """A cache for so many slots."""
    ...

  def share(self, weights: Weights, tokens: Sequence[int]) -> Shared | None:
    """What is kept of the tokens that all requests, or prompts whose labels are scored, begin with; None where nothing
    can be."""
    ...

  def start(self, tokens: Sequence[int], shared: int) -> Start:
    """How a request begins, of which `shared` tokens are computed already."""
    ...

  def fill(self, weights: Weights, cache: Any, tokens: jax.Array, counts: Array, slots: Array, prefix: Any) -> Any:
    """The cache with G requests' ids [G, S], of which the first `counts` [G] count, put into `slots` [G]."""
    ...

  def step(
    self, weights: Weights, cache: Any, tokens: jax.Array, places: jax.Array, prefix: Any
  ) -> tuple[jax.Array, Any]:
    """f32 logits [B, V] after each slot's token [B] at its place [B], and the cache with it."""
    ...

  def reorder(self, cache: Any, sources: jax.Array, first: jax.Array, count: int, prefix: Any) -> Any:
    """The cache with what stands at `count` places from `first` [B] on taken from the slots `sources` [B].

    A slot and its source have the same prompt, so that what stands before may be left as it is.
    """
    ...

  def label_logprobs(
    self,
    weights: Weights,
    prompt: Sequence[int],
    labels: Sequence[Sequence[int]],
    targets: np.ndarray,
    shared: Shared | None,
  ) -> jax.Array:
    """log P [1, T] of each token of the labels, which stand one behind another in the targets [1, T]."""
    ...


def virtual(weights: Weights) -> tuple[int, ...]:
  """The ids that stand before every prompt: the places of a soft prompt, where the weights have one."""
  return prompt_ids(len(weights[PROMPT])) if PROMPT in weights else ()


def family_of(model: Decoder | T5) -> Family:
  """The family of a module."""
  from fiat_jax.decoding.decoder_only import DecoderOnly
  from fiat_jax.decoding.encoder_decoder import EncoderDecoder

  return EncoderDecoder(model) if isinstance(model, T5) else DecoderOnly(model)


def put_rows(cache: jax.Array, fresh: jax.Array, slots: Array) -> jax.Array:
  """`cache` [B, …] with the rows of `fresh` [G, …] at the front of the slots [G]."""
  for row in range(fresh.shape[0]):
    cache = jax.lax.dynamic_update_slice(cache, fresh[row : row + 1], (slots[row], *[0] * (cache.ndim - 1)))
  return cache
