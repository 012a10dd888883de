"""A checkpoint's tensors into our leaves, one at a time: the model is never held twice.

Over a mesh they go straight into its parts: beside those of its own devices a host holds one tensor at a time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
from jax.sharding import NamedSharding

from fiat_jax.checkpoints.source import CheckpointSource
from fiat_jax.errors import UserError
from fiat_jax.models import quantized
from fiat_jax.models.registry import Leaf

# In Hugging Face folders, used by no text model: of old, rotary frequencies, and a bias that T5 1.0's cross-attention
# never had; tied matrices under their other names; the part for pictures that stands beside a text model.
UNUSED = re.compile(
  r".*\.(inv_freq|EncDecAttention\.relative_attention_bias\.weight)|(.*\.)?(embed_tokens|lm_head)\.weight|"
  r"(model\.)?(vision_tower|multi_modal_projector)\..*"
)

HEAD = "lm_head.weight"
ALIGNMENT = 64  # bytes; XLA's on CPUs


def load_params(
  source: CheckpointSource, leaves: Sequence[Leaf], shapes: Any, dtype: str, lies: Any = None, *, kernels: str = ""
) -> dict[str, Any]:
  """The tree `params` as arrays in `dtype`, where `lies` says (`sharding.of_params`), or on the default device.

  Args:
    kernels: what those of the layers are quantized as (`quantized.quantize`); empty: they are not.

  Raises:
    UserError: a tensor is missing, has another shape than the configuration says, or no place in the model; the first
      few are named.
  """
  _check(source, leaves, shapes)
  params: dict[str, Any] = {}
  for leaf in leaves:
    node = params
    for part in leaf.path[:-1]:
      node = node.setdefault(part, {})
    shape = _lookup(shapes, leaf.path).shape
    where = None if lies is None else _lookup(lies, leaf.path)
    if kernels and leaf.stacked and leaf.path[-1] == "kernel":
      node[leaf.path[-1]] = _quantized(source, leaf, shape, kernels, where)
    else:
      node[leaf.path[-1]] = _together(_read(source, leaf, shape, dtype, _parts(shape, where)), shape, where)
  return params


def _parts(shape: tuple[int, ...], where: NamedSharding | None) -> list[tuple[slice, ...]]:
  """Those of an array that this process's devices hold, each once: all of it where there is one device."""
  if where is None:
    return [(slice(None),) * len(shape)]
  of_device = where.addressable_devices_indices_map(shape)
  return list({str(index): index for index in of_device.values() if index is not None}.values())


def _together(parts: Sequence[np.ndarray], shape: tuple[int, ...], where: NamedSharding | None) -> jax.Array:
  """An array of the parts that `_parts` names, each put on the devices that hold it."""
  if where is None:
    return jnp.asarray(parts[0])
  read = dict(zip(map(str, _parts(shape, where)), parts, strict=True))
  of_device = where.addressable_devices_indices_map(shape)
  arrays = [jax.device_put(read[str(index)], device) for device, index in of_device.items()]
  return jax.make_array_from_single_device_arrays(shape, where, arrays)


def _read(
  source: CheckpointSource, leaf: Leaf, shape: tuple[int, ...], dtype: str, parts: Sequence[tuple[slice, ...]]
) -> list[np.ndarray]:
  """These parts of a leaf; of one that is stacked, every part has all layers."""
  kind = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
  kept = [_room(shape, part, kind) for part in parts]
  for number in range(shape[0]) if leaf.stacked else (None,):
    tensor = source.read(leaf.source.format(number))
    tensor = tensor.T if leaf.transposed else tensor
    for part, array in zip(parts, kept, strict=True):
      if number is None:
        array[...] = tensor[part]
      else:
        array[number] = tensor[part[1:]]
  return kept


def _quantized(
  source: CheckpointSource, leaf: Leaf, shape: tuple[int, ...], kind: str, where: NamedSharding | None
) -> Any:
  """A stacked kernel, laid out as the whole one would lie.

  Each layer is quantized as it is read, and goes back to the host, which keeps its own parts: of a large model one
  device has no room for the layers of all.
  """
  whole = jax.ShapeDtypeStruct(shape, jnp.float32)
  stacks, tree = jax.tree.flatten(jax.eval_shape(lambda kernel: quantized.quantize(kernel, kind), whole))
  lies = [None if where is None else quantized.part_lies(stack, where) for stack in stacks]
  parts = [_parts(stack.shape, at) for stack, at in zip(stacks, lies, strict=True)]
  kept = [[_room(stack.shape, part, stack.dtype) for part in some] for stack, some in zip(stacks, parts, strict=True)]
  for number in range(shape[0]):
    tensor = source.read(leaf.source.format(number))
    layer = quantized.quantize(jnp.asarray(tensor.T if leaf.transposed else tensor), kind)
    for of_layer, some, arrays in zip(jax.tree.leaves(layer), parts, kept, strict=True):
      host = np.asarray(of_layer)
      for part, array in zip(some, arrays, strict=True):
        array[number] = host[part[1:]]
  made = [_together(arrays, stack.shape, at) for arrays, stack, at in zip(kept, stacks, lies, strict=True)]
  return jax.tree.unflatten(tree, made)


def _room(shape: tuple[int, ...], part: tuple[slice, ...], dtype: np.dtype) -> np.ndarray:
  """Memory for a part of an array of this shape."""
  return _aligned(tuple(len(range(*at.indices(size))) for at, size in zip(part, shape, strict=True)), dtype)


def _aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
  """Memory that JAX takes over on a CPU where it lies; what begins anywhere would be copied, and stand there twice."""
  size = math.prod(shape) * dtype.itemsize
  memory = np.empty(size + ALIGNMENT, np.uint8)
  start = -memory.ctypes.data % ALIGNMENT
  return memory[start : start + size].view(dtype).reshape(shape)


def _check(source: CheckpointSource, leaves: Sequence[Leaf], shapes: Any) -> None:
  known, faults, used = set(source.names()), [], set[str]()
  for leaf in leaves:
    shape = _lookup(shapes, leaf.path).shape
    wanted = shape[1:] if leaf.stacked else shape
    wanted = wanted[::-1] if leaf.transposed else wanted
    for number in range(shape[0]) if leaf.stacked else (None,):
      name = leaf.source.format(number)
      used.add(name)
      if name not in known:
        faults.append(f"{name} is missing")
      elif tuple(source.shape(name)) != tuple(wanted):
        faults.append(f"{name} is {list(source.shape(name))}, not {list(wanted)}")
  # A tensor that is left out would give a model that is wrong and half plausible.
  left = sorted(known - used)
  if source.naming == "hugging_face":
    left = [name for name in left if not UNUSED.fullmatch(name)]
  faults += [f"{name} has no place in it" for name in left]
  if faults:
    more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
    raise UserError(f"does not hold what its configuration says: {'; '.join(faults[:3])}{more}", source.path)
  if HEAD in known - used:
    _check_tied(source, next(leaf.source for leaf in leaves if leaf.path == ("embedding",)))


def _check_tied(source: CheckpointSource, embedding: str) -> None:
  """A head that lies there and is not read is the embedding once more, or the configuration is wrong."""
  if source.shape(HEAD) != source.shape(embedding) or not np.array_equal(source.read(HEAD), source.read(embedding)):
    raise UserError(
      f"its configuration says that head and embedding are one (tie_word_embeddings), and {HEAD} is not {embedding}: "
      "set tie_word_embeddings to false in config.json, or take the head out of the weights",
      source.path,
    )


def _lookup(tree: Any, path: tuple[str, ...]) -> Any:
  for part in path:
    tree = tree[part]
  return tree
