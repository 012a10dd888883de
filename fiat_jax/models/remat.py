"""What the backward pass keeps of a layer and what it computes again, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
from flax import linen as nn

M = TypeVar("M", bound=type[nn.Module])

# none: all that the backward pass reads is kept. dots: what products with weights give is kept, and attention's scores
# and what acts on each number alone are computed again. full: a layer's input alone is kept.
POLICIES: dict[str, Callable[..., Any] | None] = {
  "none": None,
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


def wrapped(layer: M, name: str) -> M:
  """The layer's class under the policy `name`; parameters keep their names, and numbers are the same.

  Within a scan, whose body is compiled as it stands, nothing need be kept from being merged again (`prevent_cse`).
  """
  return layer if name == "none" else nn.remat(layer, prevent_cse=False, policy=POLICIES[name])
