"""Products and moves of models' numbers, in bf16 as fast as XLA for CPUs can.

Of bf16 factors it has one fast product, which gives f32. All else it makes f32 before and bf16 after, even a whole
cache of which one place is written, or a whole table of which one row is read. Elsewhere these are plain operations.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax import sharding


def dot(a: jax.Array, b: jax.Array) -> jax.Array:
  """a · b in f32 at the least: bf16 factors give f32, f64 ones f64."""
  return jnp.matmul(a, b, preferred_element_type=jnp.promote_types(a.dtype, jnp.float32))


def linear(x: jax.Array, kernel: jax.Array) -> jax.Array:
  """x [..., in] · W [in, out] in the dtype of both; bf16 is summed in f32 and rounded once."""
  return _rounded(x, kernel) if slow(x.dtype) else x @ kernel


def take(table: jax.Array, rows: jax.Array) -> jax.Array:
  """`table` [N, ...] at the rows [...]."""
  return _taken(table, rows) if slow(table.dtype) else jnp.take(table, rows, axis=0)


def moved(move: Callable[..., jax.Array], *arrays: jax.Array) -> jax.Array:
  """move(*arrays), of arrays of one dtype, where `move` only puts numbers elsewhere. Has no derivative on a CPU."""
  if not slow(arrays[0].dtype):
    return move(*arrays)
  bits = (jax.lax.bitcast_convert_type(array, jnp.uint16) for array in arrays)
  return jax.lax.bitcast_convert_type(move(*bits), jnp.bfloat16)


def slow(dtype: np.dtype) -> bool:
  """Whether XLA makes numbers of this type f32 before nearly everything."""
  return dtype == jnp.bfloat16 and sharding.platform() == "cpu"


@jax.custom_vjp
def _rounded(x: jax.Array, kernel: jax.Array) -> jax.Array:
  return dot(x, kernel).astype(x.dtype)


def _rounded_backward(saved: tuple[jax.Array, jax.Array], d_y: jax.Array) -> tuple[jax.Array, jax.Array]:
  # Written out because the derived rule multiplies f32 by bf16, which is as slow as bf16 that gives bf16.
  x, kernel = saved
  rows = lambda array: array.reshape(-1, array.shape[-1])  # noqa: E731
  return _rounded(d_y, kernel.T), _rounded(rows(x).T, rows(d_y))


_rounded.defvjp(lambda x, kernel: (_rounded(x, kernel), (x, kernel)), _rounded_backward)


@jax.custom_vjp
def _taken(table: jax.Array, rows: jax.Array) -> jax.Array:
  return moved(lambda bits: jnp.take(bits, rows, axis=0), table)


def _taken_backward(saved: tuple[jax.Array, jax.Array], d_y: jax.Array) -> tuple[jax.Array, None]:
  table, rows = saved
  return jnp.zeros_like(table).at[rows].add(d_y), None


_taken.defvjp(lambda table, rows: (_taken(table, rows), (table, rows)), _taken_backward)
