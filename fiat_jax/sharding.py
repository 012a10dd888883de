"""Where arrays lie: one table from what an axis is to the axes of the mesh (`meshes.py`).

Kernels name their axes where they are made (`models/`); an adapter lies as its kernel does, an optimizer's state as
what it belongs to. With one device there is no mesh: then nothing here changes a program or moves an array.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fiat_jax.errors import UserError

# What is not named here (layers, norms, relative buckets, an adapter's rank) is whole on every device.
RULES: Mapping[str, tuple[str, ...]] = {
  "batch": ("data", "fsdp"),  # rows of a microbatch
  "slots": ("data",),  # of the engine: a step's few tokens go to the weights' parts, not the parts to them
  "embed": ("fsdp",),
  "heads": ("tensor",),
  "kv": ("tensor",),
  "mlp": ("tensor",),
  "vocab": ("tensor",),
}
WORDS = {"embed": "width", "heads": "heads", "mlp": "feed-forward width"}  # as messages call what has to divide
WHOLE_WHERE_UNEVEN = ("kv", "vocab")  # few key-value heads, or a vocabulary of any size, are no reason to refuse a mesh


def mesh() -> Mesh | None:
  """The mesh in use; None where there is one device."""
  found = jax.sharding.get_mesh()
  return None if found.empty else found


def platform() -> str:
  """What the devices in use are: cpu, gpu or tpu; of a mesh that is planned for, those that it stands for.

  Programs ask it, too, as they are traced.
  """
  device = jax.sharding.get_abstract_mesh().abstract_device
  return jax.default_backend() if device is None else device.platform


def over(found: Mesh | None) -> contextlib.AbstractContextManager[Any]:
  """Within, this thread works over a mesh that another began with."""
  return contextlib.nullcontext() if found is None else jax.set_mesh(found)


def ways(name: str) -> int:
  """Into how many parts axes of this name go."""
  sizes = jax.sharding.get_abstract_mesh().shape
  return math.prod(sizes.get(axis, 1) for axis in RULES.get(name, ()))


def check_slots(slots: int) -> None:
  """Over the mesh in use, each part of `data` decodes as many requests as the others.

  Raises:
    UserError: so many slots do not divide.
  """
  if slots % (parts := ways("slots")):
    near = max(1, slots // parts) * parts
    raise UserError(f"--slots {slots} cannot be dealt to data={parts}: give {near}, or another --mesh")


def constrain(x: jax.Array, *names: str | None) -> jax.Array:
  """x, in a program, laid out by the names of its first axes; whole on every device where none is given.

  An axis that does not divide is left whole.
  """
  if jax.sharding.get_abstract_mesh().empty:
    return x
  return jax.lax.with_sharding_constraint(x, _spec(names, x.shape))


def lies_by(names: tuple[str | None, ...], units: tuple[int, ...]) -> NamedSharding:
  """Where `constrain` would lay an array of this shape, over the mesh in use."""
  return NamedSharding(everywhere().mesh, _spec(names, units))


def _spec(names: tuple[str | None, ...], units: tuple[int, ...]) -> PartitionSpec:
  """`units`: what there is to deal out of each axis."""
  pairs = zip(names, units, strict=False)
  return PartitionSpec(*(RULES.get(name) if name and count % ways(name) == 0 else None for name, count in pairs))


class Named(Protocol):
  """A model family, as far as its parameters' axes go (`models/family.py`)."""

  def axes(self) -> Any: ...

  def units(self) -> Mapping[str, int]: ...


def of_params(family: Named) -> Any:
  """Where each parameter lies, a tree of `NamedSharding`; None where there is one device.

  Raises:
    UserError: a size of the model does not divide.
  """
  found = mesh()
  if found is None:
    return None
  axes, units = family.axes(), family.units()
  for name, count in units.items():
    if count % ways(name) and name not in WHOLE_WHERE_UNEVEN:
      *some, last = [str(n) for n in range(1, ways(name)) if count % n == 0]
      fits = f"{', '.join(some)} or {last}" if some else last
      axis = RULES[name][0]
      raise UserError(
        f"--mesh {axis}={ways(name)}: the model's {WORDS[name]}, {count}, cannot be dealt to {ways(name)} devices; "
        f"{axis}={fits} can, where the mesh allows it"
      )
  known = {name: RULES[name] for name, count in units.items() if count % ways(name) == 0}
  return jax.tree.map(
    lambda names: NamedSharding(found, PartitionSpec(*(known.get(name) for name in names))),
    axes,
    is_leaf=lambda node: isinstance(node, PartitionSpec),
  )


def place(array: Any, sharding: NamedSharding) -> jax.Array:
  """An array that every process has, as one of all devices: each process hands over its own part.

  One that lies across processes, each of which has a part alone, is made whole first.
  """
  host = np.asarray(whole(array) if isinstance(array, jax.Array) and not array.is_fully_addressable else array)
  return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def rows(tree: Any) -> Any:
  """Arrays [..., R, S] of rows dealt out to devices; what has fewer axes stays as it is."""
  found = mesh()
  if found is None:
    return tree

  def deal(leaf: Any) -> Any:
    if np.ndim(leaf) < 2:
      return leaf
    return place(leaf, NamedSharding(found, PartitionSpec(*[None] * (leaf.ndim - 2), RULES["batch"])))

  return jax.tree.map(deal, tree)


def beside(adapter: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
  """An adapter laid out as its kernels are."""
  if mesh() is None:
    return dict(adapter)
  return jax.tree.map(place, dict(adapter), of_adapter(adapter, params))


def of_adapter(adapter: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
  """Where an adapter's leaves lie: A as its kernel's inputs, B as its outputs, the rank whole."""
  where = {}
  for name, node in adapter.items():
    if not isinstance(node, Mapping):  # a soft prompt
      where[name] = everywhere()
    elif any(not isinstance(leaf, Mapping) for leaf in node.values()):
      kernel = getattr(params[name]["kernel"], "qvalue", params[name]["kernel"])  # as a quantized one's levels lie
      *stack, inputs, outputs = (*kernel.sharding.spec, *[None] * kernel.ndim)[: kernel.ndim]
      axes = {"a": (*stack, inputs, None), "b": (*stack, None, outputs)}  # anything else is small, and whole
      where[name] = {key: NamedSharding(kernel.sharding.mesh, PartitionSpec(*axes.get(key, ()))) for key in node}
    else:
      where[name] = of_adapter(node, params[name])
  return where


def lies(tree: Any) -> Any:
  """Where each array of a tree lies; None where there is one device."""
  return None if mesh() is None else jax.tree.map(lambda leaf: leaf.sharding, tree)


def everywhere() -> NamedSharding:
  """Whole on every device of the mesh in use."""
  found = mesh()
  assert found is not None, "there is one device"
  return NamedSharding(found, PartitionSpec())


def like(state: Any, trained: Any) -> Any:
  """Where each leaf of a state (shapes) lies: as the trained leaf that it mirrors, or whole on every device.

  A leaf mirrors another where its path ends in the other's and its shape is the same: moments do, factors of moments
  and counts do not.
  """
  elsewhere = everywhere()
  mirrored = {_keys(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(trained)}

  def lies(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
    keys = _keys(path)
    ends = (mirrored.get(keys[n:]) for n in range(len(keys)))
    twin = next((end for end in ends if end is not None and end.shape == leaf.shape), None)
    return elsewhere if twin is None else twin.sharding

  return jax.tree_util.tree_map_with_path(lies, state)


def _keys(path: tuple[Any, ...]) -> tuple[str, ...]:
  return tuple(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def whole(tree: Any) -> Any:
  """Arrays of all devices, whole on each: what one process is to read."""
  if mesh() is None:
    return tree
  return jax.jit(lambda same: jax.tree.map(jnp.copy, same), out_shardings=everywhere())(tree)
