"""Log-likelihood of given labels after a prompt, all labels of a prompt in one pass."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.decoding.engine import bucket
from fiat_jax.models import decoder


def label_logprobs(
  model: decoder.Decoder, weights: Mapping[str, Any], prompt: Sequence[int], labels: Sequence[Sequence[int]]
) -> np.ndarray:
  """Summed log P(label | prompt) of each label [N].

  Prompt and labels stand in one row: every label sees the prompt and itself, not its siblings, at the positions that it
  would have alone. So the prompt is computed once.
  """
  start, lengths = len(prompt), [len(label) for label in labels]
  size = bucket(start + sum(lengths))
  wide = bucket(sum(lengths))
  tokens, positions, segments = (np.zeros((1, size), np.int32) for _ in range(3))
  tokens[0, :start], positions[0, :start], segments[0, :start] = prompt, np.arange(start), 1
  before, targets, owner = np.zeros((1, wide), np.int32), np.zeros((1, wide), np.int32), np.full(wide, len(labels))
  place, filled = start, 0
  for number, label in enumerate(labels):
    n = len(label)
    tokens[0, place : place + n] = label
    positions[0, place : place + n] = start + np.arange(n)
    segments[0, place : place + n] = number + 2
    before[0, filled : filled + n] = [start - 1, *range(place, place + n - 1)]
    targets[0, filled : filled + n] = label
    owner[filled : filled + n] = number
    place, filled = place + n, filled + n
  logprobs = jax.device_get(_logprobs(model, weights, tokens, positions, segments, before, targets))
  return np.bincount(owner, weights=logprobs[0], minlength=len(labels) + 1)[: len(labels)]


@functools.partial(jax.jit, static_argnums=0)
def _logprobs(model, weights, tokens, positions, segments, before, targets) -> jax.Array:
  own, seen = segments[:, :, None], segments[:, None, :]
  mask = (seen > 0) & ((seen == own) | (seen == 1)) & jnp.tril(jnp.ones((tokens.shape[1],) * 2, bool))
  hidden, _ = decoder.cached_hidden(model, weights, tokens, positions, mask)
  hidden = jnp.take_along_axis(hidden, before[:, :, None], axis=1)
  logprobs = jax.nn.log_softmax(decoder.cached_logits(model, weights, hidden))
  return jnp.take_along_axis(logprobs, targets[:, :, None], axis=-1)[:, :, 0]
