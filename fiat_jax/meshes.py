"""The mesh of devices that `--mesh` describes: its axes and sizes, across processes and slices."""

from __future__ import annotations

import collections
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from fiat_jax.errors import UserError

AXES = ("data", "fsdp", "tensor")


def parse(text: str, devices: int) -> dict[str, int]:
  """The mesh's sizes from `data=2,fsdp=4`; `data` takes what the others leave where it is not named.

  Raises:
    UserError: it names no such axis, or does not multiply to the number of devices.
  """
  sizes: dict[str, int] = {}
  for part in filter(None, (part.strip() for part in text.split(","))):
    name, _, size = (word.strip() for word in part.partition("="))
    if name not in AXES or not size.isdecimal() or int(size) < 1 or name in sizes:
      raise UserError(f"--mesh {text}: write sizes of {', '.join(AXES)}, such as data=2,fsdp=4; {part!r} is none")
    sizes[name] = int(size)
  named = math.prod(sizes.values())
  if "data" not in sizes and devices % named == 0:
    sizes["data"] = devices // named
  if math.prod(sizes.values()) != devices:
    raise UserError(
      f"--mesh {text} makes {named} of {devices} devices: the sizes have to multiply to {devices}; leave it out, or "
      f"take, say, {_that_fits(sizes, devices)}"
    )
  return {name: sizes.get(name, 1) for name in AXES}


def _that_fits(sizes: Mapping[str, int], devices: int) -> str:
  """A mesh near the one asked for: each size lowered to a divisor of what is left; `data` takes the rest."""
  fitting = {}
  for name in AXES[1:]:
    if name in sizes:
      fitting[name] = max(n for n in range(1, min(sizes[name], devices) + 1) if devices % n == 0)
      devices //= fitting[name]
  return ",".join(f"{name}={size}" for name, size in {"data": devices, **fitting}.items())


def make_mesh(sizes: Mapping[str, int]) -> Mesh | None:
  """All devices of all processes as a mesh; None where there is one.

  Raises:
    UserError: as `laid`.
  """
  devices = jax.devices()
  if len(devices) == 1:
    return None
  return Mesh(laid(devices, sizes), AXES, axis_types=(AxisType.Auto,) * len(AXES))


def laid(devices: Sequence[Any], sizes: Mapping[str, int]) -> np.ndarray:
  """Devices in a mesh's order: the last axes go along the fastest links, `data` alone across slices of TPUs.

  An axis may take a part of a slice's side (v6e:4x4 as data=2,fsdp=8).

  Raises:
    UserError: `data` cannot be divided among the slices.
  """
  from jax.experimental import mesh_utils

  shape = tuple(sizes[name] for name in AXES)
  slices = len({getattr(device, "slice_index", 0) for device in devices})
  if slices == 1:
    return mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
  if shape[0] % slices == 0:
    within, across = (shape[0] // slices, *shape[1:]), (slices, 1, 1)
    return mesh_utils.create_hybrid_device_mesh(within, across, devices, allow_split_physical_axes=True)
  if devices[0].platform == "tpu":
    raise UserError(f"--mesh: data={shape[0]} goes across {slices} slices: take a multiple of {slices}")
  return np.asarray(sorted(devices, key=lambda device: (device.process_index, device.id))).reshape(shape)  # GPU nodes


def start(text: str) -> None:
  """From now on all work is laid out over the mesh that `text` describes.

  Raises:
    UserError: processes with unlike numbers of devices; else as `parse` and `laid`.
  """
  held = collections.Counter(device.process_index for device in jax.devices())
  if len(set(held.values())) > 1:
    told = ", ".join(f"process {number} has {count}" for number, count in sorted(held.items()))
    raise UserError(f"processes need as many devices each, but {told}: start all with the same flags on like machines")
  made = make_mesh(parse(text, jax.device_count()))
  if made is not None:
    jax.set_mesh(made)
