"""NEFTune (Jain et al., 2023): uniform noise on the embeddings of a model in training."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def add_noise(key: jax.Array, x: jax.Array, segments: jax.Array, alpha: float) -> jax.Array:
  """Embeddings x [B, S, D] with noise, uniform within ± alpha / √(n · D), on each.

  n is the number of tokens of the segment [B, S] that the embedding belongs to: as in the paper's implementation the
  padding is not counted, and an example gets noise of the same size however it is packed. Padding itself gets none.
  """
  same = segments[:, :, None] == segments[:, None, :]
  tokens = jnp.sum(same, axis=-1, dtype=jnp.float32)
  size = jnp.where(segments > 0, alpha / jnp.sqrt(tokens * x.shape[-1]), 0.0)
  noise = jax.random.uniform(key, x.shape, jnp.float32, minval=-1.0, maxval=1.0)
  return x + (size[:, :, None] * noise).astype(x.dtype)
