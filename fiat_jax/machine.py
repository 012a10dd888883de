"""How fast this machine multiplies, measured in a moment: what forecasts of minutes go by."""

from __future__ import annotations

import functools
import time

import jax
import jax.numpy as jnp

SIZES = {"cpu": 2048}
SIZE, TIMES = 8192, 5  # of a matrix on an accelerator; products that are timed, of which the quickest counts


@functools.cache
def products_a_second(dtype: str) -> float:
  """Floating-point operations a second of one device in the product of two square matrices of this type."""
  size = SIZES.get(jax.default_backend(), SIZE)
  matrix = jnp.ones((size, size), dtype)
  multiply = jax.jit(jnp.matmul)
  jax.block_until_ready(multiply(matrix, matrix))
  times = []
  for _ in range(TIMES):
    started = time.perf_counter()
    jax.block_until_ready(multiply(matrix, matrix))
    times.append(time.perf_counter() - started)
  return 2 * size**3 / min(times)
