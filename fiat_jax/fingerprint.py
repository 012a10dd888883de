"""A short number for what arrays hold, made where they lie: on any devices, dealt out or whole."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

FACTORS = (0x9E3779B1, 0x85EBCA6B)  # odd, and unlike each other: two sums of 32 bits a leaf
UNSIGNED = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32}


def fingerprint(tree: Any) -> tuple[int, ...]:
  """The same of trees whose leaves are equal bit for bit, and by chance of no others (2⁻⁶⁴ for a leaf)."""
  sums = jax.device_get(_sums(tree))
  return tuple(int(number) for pair in sums for number in pair)


@jax.jit
def _sums(tree: Any) -> list[jax.Array]:
  return [jnp.stack([_sum(leaf, factor) for factor in FACTORS]) for leaf in jax.tree.leaves(tree)]


def _sum(leaf: jax.Array, factor: int) -> jax.Array:
  """Σ mixed(bits of a number, its place), mod 2³². Whole numbers: in any order the same."""
  bits = jax.lax.bitcast_convert_type(leaf, UNSIGNED.get(leaf.dtype.itemsize, jnp.uint32)).astype(jnp.uint32)
  place = jnp.zeros((), jnp.uint32)
  for axis, size in enumerate(bits.shape):
    place = place * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis)
  mixed = (bits ^ (place * jnp.uint32(factor))) * jnp.uint32(factor ^ 0x27D4EB2E)
  mixed = (mixed ^ (mixed >> 15)) * jnp.uint32(0x2C1B3C6D)
  return jnp.sum(mixed ^ (mixed >> 13), dtype=jnp.uint32)
