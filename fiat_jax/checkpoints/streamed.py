"""A safetensors file written one tensor at a time: no more than one is held beside what they are made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}


class Tensor(NamedTuple):
  """A tensor to be written; `make` gives it when its turn comes, contiguous."""

  name: str
  shape: tuple[int, ...]
  dtype: np.dtype
  make: Callable[[], np.ndarray]

  @property
  def nbytes(self) -> int:
    return int(np.prod(self.shape)) * self.dtype.itemsize


def write(file: Path, tensors: Sequence[Tensor]) -> None:
  """Writes them in this order, as PyTorch's tensors (https://github.com/huggingface/safetensors#format)."""
  header: dict[str, object] = {"__metadata__": {"format": "pt"}}
  end = 0
  for tensor in tensors:
    start, end = end, end + tensor.nbytes
    header[tensor.name] = {"dtype": DTYPES[tensor.dtype.name], "shape": tensor.shape, "data_offsets": (start, end)}
  text = json.dumps(header, separators=(",", ":")).encode()
  text += b" " * (-len(text) % 8)
  with open(file, "wb") as out:
    out.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors:
      out.write(tensor.make().view(np.uint8).reshape(-1).data)
