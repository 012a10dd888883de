"""Parameters of an encoder–decoder before any training, from which a small one learns to copy within minutes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.models.relative import relative_buckets
from fiat_jax.models.t5 import T5Config
from fiat_jax.models.t5_registry import t5_shapes

NEIGHBOURS = (-1, 1, -2)  # what the first heads look at in the beginning, as far as there are so many
PREFERENCE = 4.0  # by how much, on the scale of scores


def initial_params(config: T5Config, seed: int) -> dict[str, Any]:
  """Random parameters at T5's own scales, but for two things that mimic trained models.

  The first heads of each stack begin by looking at neighbours, as ALiBi's do (Press et al., 2022), and value and output
  of cross-attention begin as an orthogonal map and its inverse, so that a token passes as it is (after mimetic
  initialisation; Trockman and Kolter, 2023). From random ones alone, copying begins after thousands of updates.
  """
  draw = np.random.default_rng(seed)

  def fill(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> np.ndarray:
    names = [part.key for part in path]
    if names[-1] == "scale":
      return np.ones(leaf.shape, np.float32)
    if names[-1] == "relative_bias":
      return _neighbours(config, bidirectional=names[0] == "encoder")
    deviation = 1.0 if names[-1] == "embedding" else leaf.shape[-2] ** -0.5
    deviation *= config.head_dim**-0.5 if "query" in names else 1.0  # scores are not scaled
    return draw.normal(0, deviation, leaf.shape).astype(np.float32)

  params = jax.tree_util.tree_map_with_path(fill, t5_shapes(config))
  attention = params["decoder"]["layers"]["cross_attention"]
  for layer in range(config.decoder_layers):
    turned, _ = np.linalg.qr(draw.normal(size=attention["value"]["kernel"].shape[1:]))
    attention["value"]["kernel"][layer], attention["out"]["kernel"][layer] = turned, turned.T
  return params


def _neighbours(config: T5Config, *, bidirectional: bool) -> np.ndarray:
  """The relative bias [H, buckets] that prefers one neighbour in each of the first heads."""
  bias = np.zeros((config.heads, config.buckets), np.float32)
  for head, offset in enumerate(NEIGHBOURS[: config.heads]):
    here = max(0, -offset)
    places = jnp.array([[here]]), jnp.array([[here + offset]])
    bucket = relative_buckets(
      *places, buckets=config.buckets, max_distance=config.max_distance, bidirectional=bidirectional
    )
    bias[head, int(np.asarray(bucket).item())] = PREFERENCE
  return bias
