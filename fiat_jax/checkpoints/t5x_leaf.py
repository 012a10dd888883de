"""One array of a T5X checkpoint, inline or zarr: its shape, its values, and a sample that is read cheaply."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from fiat_jax.errors import UserError

SMALL = 1 << 16  # elements: a smaller array is its own sample
PART = 1 << 16  # bytes that are sampled at either end of a chunk
ABOUT = (".zarray", ".zattrs", "zarr.json")  # zarr's own description


class Leaf(NamedTuple):
  """One array.

  Attributes:
    read: reads it whole, or at one index of an axis.
    sample: bytes that change when the array is written anew; of a large one, a bounded part of what is stored.
  """

  shape: tuple[int, ...]
  read: Callable[[int | None, int], np.ndarray]
  sample: Callable[[], bytes]


def inline(array: np.ndarray) -> Leaf:
  array = _floats(array)
  read = lambda index, axis: np.array(array if index is None else array.take(index, axis))  # noqa: E731
  return Leaf(array.shape, read, array.tobytes)


def zarr(store: dict[str, Any], name: str, path: str, driver: str = "zarr") -> Leaf:
  """A zarr folder, opened.

  Raises:
    UserError: there is none, or it is damaged; also later, where it is read.
  """
  import tensorstore

  try:
    opened = tensorstore.open(
      {"driver": driver, "kvstore": store}, open=True, read=True, context=context(), recheck_cached_data=False
    ).result()
  except Exception as e:  # TensorStore raises ValueError for what is missing and for what is damaged
    raise _unreadable(e, name, path) from None

  def read(index: int | None, axis: int) -> np.ndarray:
    part = opened if index is None else opened[(slice(None),) * axis + (index,)]
    try:
      return _floats(np.asarray(part.read().result()))
    except Exception as e:
      raise _unreadable(e, name, path) from None

  def sample() -> bytes:
    if math.prod(opened.shape) <= SMALL:
      return read(None, 0).tobytes()
    try:
      return _stored(opened.kvstore)
    except Exception as e:
      raise _unreadable(e, name, path) from None

  return Leaf(tuple(opened.shape), read, sample)


def _stored(folder: Any) -> bytes:
  """What describes an array, its chunks' names, and both ends of the first and the last of them as they are stored.

  A compressed chunk ends in a checksum of all of it.
  """
  keys = sorted(folder.list().result())
  chunks = [key for key in keys if key.decode() not in ABOUT]
  about = [folder.read(key).result().value for key in keys if key.decode() in ABOUT]
  ends = [end for key in dict.fromkeys(chunks[:1] + chunks[-1:]) for end in _ends(folder, key)]
  return b"\n".join([*about, *chunks, *ends])


def _ends(folder: Any, key: bytes) -> list[bytes]:
  try:
    parts = [slice(None, PART), slice(-PART, None)]
    return [folder.read(key, byte_range=part).result().value for part in parts]
  except ValueError as e:
    if "OUT_OF_RANGE" not in str(e):
      raise
    return [folder.read(key).result().value]  # it is shorter


def _floats(array: np.ndarray) -> np.ndarray:
  """T5X of old kept bfloat16's bits as whole numbers."""
  return array.view(ml_dtypes.bfloat16) if array.dtype == np.uint16 else array


def context() -> Any:
  """A bucket that does not answer is given up after three tries, not after minutes."""
  import tensorstore

  retries = {"max_retries": 3, "initial_delay": "500ms", "max_delay": "2s"}
  return tensorstore.Context({"gcs_request_retries": retries, "s3_request_retries": retries})


def reason(error: Exception) -> str:
  """TensorStore's first words."""
  return str(error).strip().split("[")[0].strip() or type(error).__name__


def _unreadable(error: Exception, name: str, path: str) -> UserError:
  return UserError(f"{name} cannot be read ({reason(error)}): fetch the folder again", path)
