"""Frozen kernels in 8 or 4 bits: leaves of qwix's `QArray`, made whole again where a layer uses them.

int8 has a scale for each output. NF4 (Dettmers et al., 2023, §3) has 16 levels, the quantiles of a normal distribution,
and a scale for each block of an output's inputs. Embeddings, norms, biases, the head and adapters stay as they are.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from fiat_jax import sharding
from fiat_jax.models.bf16 import linear

if TYPE_CHECKING:
  from qwix import QArray  # takes a quarter of a second, which those without quantized weights are spared

BLOCK = 64  # inputs that share a scale in NF4 (Dettmers et al., 2023, §4)


@functools.partial(jax.jit, static_argnums=1)
def quantize(kernel: jax.Array, kind: str) -> QArray:
  """A kernel [..., in, out] as `kind` with f32 scales, [..., 1, out] or [..., in / block, out].

  A block has `BLOCK` inputs, or the most below that into which the kernel's can be dealt.
  """
  import qwix

  kernel, inputs = kernel.astype(jnp.float32), kernel.ndim - 2
  own = [axis for axis in range(kernel.ndim) if axis != inputs]
  if kind == "int8":
    return qwix.quantize(kernel, jnp.int8, channelwise_axes=own)
  block = max(size for size in range(1, BLOCK + 1) if kernel.shape[inputs] % size == 0)
  return qwix.quantize(kernel, "nf4", channelwise_axes=own, tiled_axes={inputs: block})


def is_quantized(leaf: Any) -> bool:
  return hasattr(leaf, "qvalue")


def whole(kernel: QArray, dtype: jnp.dtype) -> jax.Array:
  """The kernel that a quantized one stands for: multiplied out in f32, rounded once."""
  import qwix

  return qwix.dequantize(kernel).astype(dtype)


def part_lies(part: Any, lies: NamedSharding) -> NamedSharding:
  """Where levels or scales lie whose kernel would lie so (`sharding.of_params`), scales as far as they divide."""
  ways = dict(lies.mesh.shape)
  names = [(axis,) if isinstance(axis, str) else axis or () for axis in lies.spec]
  divides = [size % math.prod(ways[name] for name in of) == 0 for of, size in zip(names, part.shape, strict=False)]
  return NamedSharding(
    lies.mesh, PartitionSpec(*(of if even else None for of, even in zip(names, divides, strict=True)))
  )


def product(x: jax.Array, kernel: Any, dtype: jnp.dtype) -> jax.Array:
  """x · W of a kernel W [in, out], quantized or not, in `dtype`."""
  return _product(x, kernel, dtype) if is_quantized(kernel) else linear(x, kernel.astype(dtype))


@functools.partial(jax.checkpoint, static_argnums=2)  # else the backward pass would keep every layer's whole kernel
def _product(x: jax.Array, kernel: QArray, dtype: jnp.dtype) -> jax.Array:
  # Bound to x, else the compiler would make all kernels whole before a loop of decode steps, and keep them through it;
  # and on a CPU, where that bond is cut before operations are put in order, all of them at the beginning of a step.
  x, kernel = jax.lax.optimization_barrier((x, kernel))
  if sharding.platform() == "cpu":
    nothing = 0 * x.reshape(-1)[0].astype(kernel.scale.dtype)
    kernel = dataclasses.replace(kernel, scale=kernel.scale + nothing)
  return linear(x, whole(kernel, dtype))


def leaves(tree: Any) -> list[Any]:
  """A tree's leaves, a quantized kernel as one."""
  return jax.tree.leaves(tree, is_leaf=is_quantized)


def bytes_each(dtype: jnp.dtype) -> float:
  """What a number takes on a device: those of 4 bits lie two to a byte, whatever their `itemsize` says."""
  return 0.5 if dtype in (jnp.int4, jnp.uint4) else dtype.itemsize
