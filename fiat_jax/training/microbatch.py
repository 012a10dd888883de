"""How many tokens a device works on at a time: an estimate to begin with; what does not fit is halved by the loop."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fiat_jax import processes
from fiat_jax.models import quantized
from fiat_jax.models.family import Family

WITHOUT_ACCELERATOR = 1024  # tokens; on a processor more is no faster
SHARE = 0.8  # of what is free beside weights and optimizer: the rest is for the compiler's temporaries
MOST = 2**17  # tokens


def tokens_that_fit(family: Family, length: int, held: int, remat: str = "none") -> int:
  """Tokens of a microbatch by estimate, a power of two.

  Args:
    length: of a row, in tokens: attention's probabilities grow with it.
    held: bytes of what stays on the device: weights, optimizer state, gradients.
    remat: what is computed again (`models/remat.py`).
  """
  stats = jax.local_devices()[0].memory_stats() or {}
  if "bytes_limit" not in stats:
    return WITHOUT_ACCELERATOR
  smallest = min(map(int, processes.of_each(str(stats["bytes_limit"]))))  # all take the same steps
  room = max(1, int(SHARE * (smallest - held)) // family.bytes_a_token(length, remat))
  return min(MOST, 1 << (room.bit_length() - 1))


def size(tree: Any) -> int:
  """Bytes that a tree of arrays takes on one device."""
  part = lambda leaf: np.prod(leaf.sharding.shard_shape(leaf.shape))  # noqa: E731
  return sum(int(part(leaf) * quantized.bytes_each(leaf.dtype)) for leaf in jax.tree.leaves(tree))
