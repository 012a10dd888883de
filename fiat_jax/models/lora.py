"""LoRA (Hu et al., 2021): which projections get an adapter, its creation, merging and counting.

An adapter is a collection of its own, `lora`, whose tree mirrors that of `params`: where a targeted linear layer has
`kernel`, the adapter has `a` and `b`. The linear layer that applies them is in `models/layers.py`; other kinds of
adapters, and what each is to a kernel, are in `models/adapters.py`.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np

from fiat_jax.errors import UserError
from fiat_jax.models import quantized

ATTENTION_QUERY_VALUE = r".*attention/(query|value)"
EVERY_LINEAR = r"(.*/)?layers/.*"  # of the layers: not the head, which is as large as the vocabulary

Tree = Mapping[str, Any]
Scaling = Literal["rank", "root_rank"]
Kind = Literal["lora", "dora", "ia3", "prompt"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoraConfig:
  """ΔW = scale · A · B on every projection whose path matches `targets` (a full match).

  The scale is alpha / rank, or alpha / √rank (rsLoRA; Kalajdzievski, 2023). Of other kinds (`models/adapters.py`),
  `prompt_tokens` is how many places a soft prompt has, and `targets` says which projections IA3 scales.
  """

  kind: Kind = "lora"

  rank: int = 8
  alpha: float = 16.0
  scaling: Scaling = "rank"
  dropout: float = 0.0
  targets: str = ATTENTION_QUERY_VALUE
  prompt_tokens: int = 20

  def __post_init__(self):
    if self.rank < 1:
      raise UserError(f"a LoRA rank of {self.rank}: give 1 or more")
    if self.scaling not in get_args(Scaling):
      raise UserError(f"the LoRA scaling {self.scaling!r} is unknown: give one of {', '.join(get_args(Scaling))}")
    if not 0.0 <= self.dropout < 1.0:
      raise UserError(f"a LoRA dropout of {self.dropout}: give 0 or more and less than 1")
    try:
      re.compile(self.targets)
    except re.error as e:
      raise UserError(f"the LoRA targets {self.targets!r} are no regular expression: {e}") from None

  @property
  def scale(self) -> float:
    return self.alpha / (self.rank if self.scaling == "rank" else math.sqrt(self.rank))


def init_adapter(key: jax.Array, params: Tree, config: LoraConfig) -> dict[str, Any]:
  """A fresh adapter for `params` (arrays or shapes): A normal with variance 1 / in, B zero, both f32.

  A kernel of shape [*stack, in, out] gets `a` [*stack, in, rank] and `b` [*stack, rank, out].

  Raises:
    UserError: `config.targets` matches no projection.
  """
  adapter: dict[str, Any] = {}
  for number, (path, kernel) in enumerate(targeted(params, config)):
    *stack, inputs, outputs = kernel.shape
    a = jax.random.normal(jax.random.fold_in(key, number), (*stack, inputs, config.rank)) / np.sqrt(inputs)
    node = adapter
    for part in path.split("/"):
      node = node.setdefault(part, {})
    node.update(a=a, b=jnp.zeros((*stack, config.rank, outputs)))
  return adapter


def targeted(params: Tree, config: LoraConfig) -> list[tuple[str, Any]]:
  """The projections of layers that get an adapter: path and kernel (array or shape). The head, a linear one, gets none.

  Raises:
    UserError: `config.targets` matches none.
  """
  projections = [(path, kernel) for path, kernel in kernels(params) if re.fullmatch(EVERY_LINEAR, path)]
  chosen = [(path, kernel) for path, kernel in projections if re.fullmatch(config.targets, path)]
  if not chosen:
    raise UserError(
      f"the LoRA targets {config.targets!r} match no projection; there are "
      + ", ".join(path for path, _ in projections)
    )
  return chosen


def count(tree: Tree) -> int:
  """Number of scalars in a tree; those of a quantized kernel are what it stands for."""
  return sum(int(np.prod(leaf.shape)) for leaf in quantized.leaves(tree))


def kernels(params: Tree, prefix: str = "") -> Iterator[tuple[str, Any]]:
  """The linear projections of a tree: path without the trailing `kernel`, and the kernel."""
  for name, node in params.items():
    if not isinstance(node, Mapping):
      continue
    path = f"{prefix}{name}"
    if "kernel" in node:
      yield path, node["kernel"]
    yield from kernels(node, f"{path}/")
