"""A safetensors file written one tensor at a time: two are held beside what they are made of, never all."""

from __future__ import annotations

import collections
import concurrent.futures
import json
from collections.abc import Callable, Iterator, Sequence
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
    for made in _made(tensors):
      out.write(made.view(np.uint8).reshape(-1).data)


def _made(tensors: Sequence[Tensor]) -> Iterator[np.ndarray]:
  """Each tensor in its turn; the next one is made while it is written."""
  with concurrent.futures.ThreadPoolExecutor(1) as maker:
    coming = collections.deque[concurrent.futures.Future[np.ndarray]]()
    for tensor in tensors:
      coming.append(maker.submit(tensor.make))
      if len(coming) > 1:
        yield coming.popleft().result()
    while coming:
      yield coming.popleft().result()
