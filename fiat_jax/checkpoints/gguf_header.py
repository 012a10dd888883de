"""The header of a GGUF file: its metadata, and where its tensors lie. Tensors are read in `gguf.py`.

The `gguf` package reads headers too, but takes seconds for a vocabulary and does not notice a file cut short.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import mmap
import struct
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGUF_DEFAULT_ALIGNMENT, GGMLQuantizationType
from gguf.quants import quant_shape_to_byte_shape

from fiat_jax.errors import UserError

# The format's value types: struct codes of the scalar ones, and the two others.
_SCALARS: dict[int, str] = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoredTensor:
  """Where a tensor lies.

  Attributes:
    shape: row-major; the file lists it the other way round.
    stored_shape: the same in bytes: quantized blocks run along the last axis.
    kind: the quantization.
    offset: in bytes, from the file's start.
  """

  shape: tuple[int, ...]
  stored_shape: tuple[int, ...]
  kind: GGMLQuantizationType
  offset: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Header:
  """A GGUF file's metadata by key, and its tensors by GGUF name."""

  metadata: dict[str, Any]
  tensors: dict[str, StoredTensor]


def read_header(path: Path) -> Header:
  """Reads a GGUF file's metadata and where its tensors lie, and checks that the file holds all of them.

  While the file is as it was, nothing is read again.

  Raises UserError where there is no such file, it is not GGUF version 2 or 3, or it is cut short.
  """
  try:
    found = path.stat()
  except OSError as error:
    raise UserError(f"cannot read the file: {error.strerror}", path=path) from error
  return _read(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))


@functools.lru_cache(maxsize=2)  # a large vocabulary takes a second, and is asked for by the model and its tokenizer
def _read(path: Path, _state: tuple[int, ...]) -> Header:
  try:
    with path.open("rb") as stream:
      if stream.read(4) != b"GGUF":
        raise UserError("not a GGUF file: its first four bytes are not 'GGUF'", path=path)
      with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _parse(_Cursor(data), len(data), path)
  except OSError as error:
    raise UserError(f"cannot read the file: {error.strerror}", path=path) from error
  except EOFError as error:
    raise UserError("the file ends within its header: fetch it again", path=path) from error
  except (ValueError, KeyError, ArithmeticError, TypeError) as error:
    raise UserError(f"the GGUF header is damaged ({error!r}): fetch the file again", path=path) from error


class _Cursor:
  """Reads the format's little-endian values one after the other; EOFError past the end."""

  def __init__(self, data: mmap.mmap):
    self._data = data
    self.position = 0

  def take(self, size: int) -> bytes:
    if self.position + size > len(self._data):
      raise EOFError
    self.position += size
    return self._data[self.position - size : self.position]

  def scalars(self, code: str, count: int) -> list[Any]:
    form = struct.Struct(f"<{code}")
    values = [value for (value,) in form.iter_unpack(self.take(form.size * count))]
    # The shortest decimal of a float32: 1e-05 rather than 9.999999747378752e-06.
    return [float(str(np.float32(value))) for value in values] if code == "f" else values

  def scalar(self, code: str) -> Any:
    return self.scalars(code, 1)[0]

  def string(self) -> str:
    return self.take(self.scalar("Q")).decode()

  def value(self, kind: int) -> Any:
    if kind == _STRING:
      return self.string()
    if kind != _ARRAY:
      return self.scalar(_SCALARS[kind])
    kind, count = self.scalar("I"), self.scalar("Q")
    return self.scalars(_SCALARS[kind], count) if kind in _SCALARS else [self.value(kind) for _ in range(count)]


def _parse(cursor: _Cursor, size: int, path: Path) -> Header:
  cursor.take(4)
  if (version := cursor.scalar("I")) not in (2, 3):
    raise UserError(f"GGUF version {version} is not supported: use a little-endian file of version 2 or 3", path=path)
  tensor_count, key_count = cursor.scalars("Q", 2)
  metadata = {}
  for _ in range(key_count):
    key = cursor.string()
    metadata[key] = cursor.value(cursor.scalar("I"))
  entries = [_tensor_entry(cursor) for _ in range(tensor_count)]
  alignment = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
  start = -(-cursor.position // alignment) * alignment
  tensors = {name: dataclasses.replace(tensor, offset=start + tensor.offset) for name, tensor in entries}
  for name, tensor in tensors.items():
    if tensor.offset + math.prod(tensor.stored_shape) > size:
      raise UserError(f"the file is cut short: it has {size} bytes and {name} ends later: fetch it again", path=path)
  return Header(metadata=metadata, tensors=tensors)


def _tensor_entry(cursor: _Cursor) -> tuple[str, StoredTensor]:
  name = cursor.string()
  shape = tuple(reversed(cursor.scalars("Q", cursor.scalar("I"))))
  kind = GGMLQuantizationType(cursor.scalar("I"))
  return name, StoredTensor(
    shape=shape, stored_shape=quant_shape_to_byte_shape(shape, kind), kind=kind, offset=cursor.scalar("Q")
  )
