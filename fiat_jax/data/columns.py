"""Arrays on disk that grow at their end."""

from __future__ import annotations

import pathlib

import numpy as np


class Column:
  """An `.npy` file of one dimension that grows at its end, so that no more than a part of it is ever in memory.

  Args:
    length: how many elements of a file that is there already are kept; 0: a new one.
  """

  def __init__(self, path: pathlib.Path, dtype: str = "<i4", length: int = 0):
    self.length, self._dtype = length, np.dtype(dtype)
    self._file = open(path, "r+b" if length else "w+b", buffering=1 << 20)  # noqa: SIM115  closed by __exit__
    self._write_header()
    if length:
      end = self._file.tell() + length * self._dtype.itemsize
      self._file.truncate(end)
      self._file.seek(end)

  def append(self, values: np.ndarray) -> None:
    self._file.write(values.astype(self._dtype, copy=False).tobytes())
    self.length += len(values)

  def flush(self) -> None:
    """What was appended outlives this process."""
    self._file.flush()

  def _write_header(self) -> None:
    # NumPy leaves room in a header for the first dimension to grow.
    header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": (self.length,)}
    np.lib.format.write_array_header_1_0(self._file, header)

  def __enter__(self) -> Column:
    return self

  def __exit__(self, *_: object) -> None:
    self._file.seek(0)
    self._write_header()
    self._file.close()
