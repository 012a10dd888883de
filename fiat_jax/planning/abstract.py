"""Arguments of the real programs as shapes that know where they would lie: nothing is read and nothing computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

from fiat_jax import sharding
from fiat_jax.models import quantized
from fiat_jax.models.family import Family


class Abstract(jax.ShapeDtypeStruct):
  """A shape that is cut into layers as arrays are."""

  def __getitem__(self, number: int) -> Abstract:
    where: Any = self.sharding
    return Abstract(self.shape[1:], self.dtype, sharding=NamedSharding(where.mesh, PartitionSpec(*where.spec[1:])))


def params(family: Family, dtype: str, kernels: str = "") -> Any:
  """The tree `params` as `checkpoints.load` would lay it out over the mesh in use."""

  def lay(path: Any, leaf: Any, where: NamedSharding) -> Any:
    plain = jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype))
    if kernels and "layers" in str(path) and path[-1].key == "kernel":
      parts = jax.eval_shape(lambda kernel: quantized.quantize(kernel, kernels), plain)
      return jax.tree.map(
        lambda part: Abstract(part.shape, part.dtype, sharding=quantized.part_lies(part, where)), parts
      )
    spec = (*where.spec, *[None] * leaf.ndim)[: leaf.ndim]
    return Abstract(leaf.shape, plain.dtype, sharding=NamedSharding(where.mesh, PartitionSpec(*spec)))

  return jax.tree_util.tree_map_with_path(lay, family.shapes(), sharding.of_params(family))


def placed(shapes: Any, where: Any) -> Any:
  """Shapes with where they lie."""
  return jax.tree.map(lambda leaf, at: Abstract(leaf.shape, leaf.dtype, sharding=at), shapes, where)


def by_names(shapes: Any, *names: str) -> Any:
  """Shapes whose first axes are of these names; what has one axis at the most is whole everywhere."""

  def lay(leaf: Any) -> Abstract:
    where = sharding.lies_by(names if len(leaf.shape) > 1 else (), leaf.shape)
    return Abstract(leaf.shape, leaf.dtype, sharding=where)

  return jax.tree.map(lay, shapes)


def rows(batch: Mapping[str, Any]) -> dict[str, Any]:
  """Arrays [..., R, S] as `sharding.rows` deals them out."""
  found = sharding.mesh()
  assert found is not None, "plans are made over a mesh, of one device too"

  def lay(leaf: Any) -> Abstract:
    axes = () if leaf.ndim < 2 else (*[None] * (leaf.ndim - 2), sharding.RULES["batch"])
    return Abstract(leaf.shape, leaf.dtype, sharding=NamedSharding(found, PartitionSpec(*axes)))

  return {name: lay(leaf) for name, leaf in batch.items()}
