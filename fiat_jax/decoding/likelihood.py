"""Log-likelihood of given labels after a prompt, all labels of a prompt in one pass; what prompts share, once."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax import sharding
from fiat_jax.decoding.family import virtual
from fiat_jax.decoding.lengths import bucket
from fiat_jax.models import decoder, t5_cached
from fiat_jax.models.attention import segment_mask
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.t5 import T5


class Row(NamedTuple):
  """What a family makes of a prompt and its labels: arguments of its pass over one row."""

  tokens: np.ndarray
  positions: np.ndarray
  segments: np.ndarray


class Shared(NamedTuple):
  """What is kept of ids that many prompts begin with: keys and values a layer, padded, and how many ids there are."""

  prefix: Any
  length: int


def share(model: Decoder | T5, weights: Mapping[str, Any], ids: Sequence[int]) -> Shared | None:
  """Computes what prompts share; None of an encoder, whose states depend on the whole input."""
  ids = [*virtual(weights), *ids]
  if isinstance(model, T5) or not ids:
    return None
  padded = np.zeros((1, bucket(len(ids))), np.int32)
  padded[0, : len(ids)] = ids
  return Shared(_prefix(model, weights, padded), len(ids))


def label_logprobs(
  model: Decoder | T5,
  weights: Mapping[str, Any],
  prompt: Sequence[int],
  labels: Sequence[Sequence[int]],
  shared: Shared | None = None,
) -> np.ndarray:
  """Summed log P(label | prompt) of each label [N].

  All labels stand in one row: each sees the prompt and itself, not its siblings, at the positions that it would have
  alone. So the prompt is computed once; of what is `shared`, which the prompt begins with, nothing is computed again.
  """
  prompt = [*virtual(weights), *prompt]
  wide = bucket(sum(len(label) for label in labels))
  targets, owner = np.zeros((1, wide), np.int32), np.full(wide, len(labels))
  filled = 0
  for number, label in enumerate(labels):
    targets[0, filled : filled + len(label)], owner[filled : filled + len(label)] = label, number
    filled += len(label)
  if isinstance(model, T5):
    logprobs = _encoder_decoder(model, weights, prompt, labels, targets)
  else:
    logprobs = _decoder_only(model, weights, prompt, labels, targets, shared)
  logprobs = jax.device_get(logprobs)
  return np.bincount(owner, weights=logprobs[0], minlength=len(labels) + 1)[: len(labels)]


def _decoder_only(model: Decoder, weights, prompt, labels: Sequence[Sequence[int]], targets, shared: Shared | None):
  """Prompt and labels in one row; the first token of each label is predicted at the prompt's last place."""
  known = shared.length if shared else 0
  prompt = prompt[known:]
  start = len(prompt)
  row = _row(bucket(start + sum(len(label) for label in labels)))
  _put(row, 0, prompt, known, 1)
  before = np.zeros_like(targets)
  place, filled = start, 0
  for number, label in enumerate(labels):
    n = len(label)
    _put(row, place, label, known + start, number + 2)
    before[0, filled : filled + n] = [start - 1, *range(place, place + n - 1)]
    place, filled = place + n, filled + n
  return _decoder_only_logprobs(model, weights, *row, before, targets, shared)


def _encoder_decoder(model: T5, weights, prompt: Sequence[int], labels: Sequence[Sequence[int]], targets):
  """The prompt in the encoder; in the decoder each label but for its last token, behind the start token."""
  source = np.zeros((1, bucket(len(prompt))), np.int32)
  source[0, : len(prompt)] = prompt
  row, place = _row(targets.shape[1]), 0
  for number, label in enumerate(labels):
    _put(row, place, [model.config.start_id, *label[:-1]], 0, number + 1)
    place += len(label)
  return _encoder_decoder_logprobs(model, weights, source, np.array([len(prompt)]), *row, targets)


def _row(size: int) -> Row:
  return Row(*(np.zeros((1, size), np.int32) for _ in Row._fields))


def _put(row: Row, place: int, ids: Sequence[int], position: int, segment: int) -> None:
  at = slice(place, place + len(ids))
  row.tokens[0, at], row.positions[0, at], row.segments[0, at] = ids, position + np.arange(len(ids)), segment


@functools.partial(jax.jit, static_argnums=0)
def _decoder_only_logprobs(model, weights, tokens, positions, segments, before, targets, shared) -> jax.Array:
  own, seen = segments[:, :, None], segments[:, None, :]
  mask = (seen > 0) & ((seen == own) | (seen == 1)) & jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
  prefix = shared.prefix if shared else None
  if shared:  # all see it, and none what it is padded with
    known = jnp.arange(shared.prefix[0].v.shape[2]) < shared.length
    mask = jnp.concatenate([jnp.broadcast_to(known, (*mask.shape[:2], len(known))), mask], axis=-1)
  hidden, _ = decoder.cached_hidden(model, weights, tokens, positions, mask, prefix=prefix)
  hidden = jnp.take_along_axis(hidden, before[:, :, None], axis=1)
  return _chosen(decoder.cached_logits(model, weights, hidden), targets)


@functools.partial(jax.jit, static_argnums=0)
def _prefix(model, weights, tokens) -> Any:
  mask = jnp.tril(jnp.ones((1, tokens.shape[1], tokens.shape[1]), bool))
  return decoder.cached_hidden(model, weights, tokens, jnp.arange(tokens.shape[1])[None], mask)[1]


@functools.partial(jax.jit, static_argnums=0)
def _encoder_decoder_logprobs(model, weights, source, lengths, tokens, positions, segments, targets) -> jax.Array:
  cross = t5_cached.cross(model, weights, t5_cached.encode(model, weights, source, lengths))
  mask = segment_mask(segments)
  hidden, _ = t5_cached.cached_hidden(model, weights, tokens, positions, mask, cross, lengths)
  return _chosen(t5_cached.logits(model, weights, hidden), targets)


def _chosen(logits: jax.Array, targets: jax.Array) -> jax.Array:
  chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), targets[:, :, None], axis=-1)[:, :, 0]
  return sharding.constrain(chosen)
