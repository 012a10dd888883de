"""Log-likelihood of given labels after a prompt, all labels of a prompt in one pass; what prompts share, once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from fiat_jax.decoding.family import family_of, virtual
from fiat_jax.decoding.label_rows import Shared
from fiat_jax.decoding.lengths import bucket
from fiat_jax.models.family import Module


def share(model: Module, weights: Mapping[str, Any], ids: Sequence[int]) -> Shared | None:
  """Computes what prompts share; None of an encoder, whose states depend on the whole input."""
  ids = [*virtual(weights), *ids]
  return family_of(model).share(weights, ids) if ids else None


def label_logprobs(
  model: Module,
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
  logprobs = jax.device_get(family_of(model).label_logprobs(weights, prompt, labels, targets, shared))
  return np.bincount(owner, weights=logprobs[0], minlength=len(labels) + 1)[: len(labels)]
