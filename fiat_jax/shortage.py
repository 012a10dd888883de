"""What a machine runs out of, read out of the exceptions that libraries raise: memory, and room on a disk."""

from __future__ import annotations

import errno
import os
import pathlib
import re
import shutil
import sys
from collections.abc import Iterator, Sequence

from fiat_jax.errors import UserError

GIB = 2**30
UNITS = {"b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
FULL_TEXTS = (  # of the system, as TensorStore, safetensors and child processes pass it on, and of NumPy
  "No space left on device",
  "Disk quota exceeded",
  "File too large",
  " requested and ",
)


def out_of_memory(error: BaseException) -> bool:
  """Whether an exception says that memory did not suffice, at compile time or at run time."""
  if isinstance(error, MemoryError):
    return True
  from_jax = type(error).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
  return from_jax and ("RESOURCE_EXHAUSTED" in str(error) or "Out of memory" in str(error))


def memory_told(error: BaseException) -> str:
  """`needed 2.0 GiB at once, had 16.0 GiB in all`, as far as it is known."""
  text = str(error)
  used = re.search(r"Used ([\d.]+)\s?([bKMGT])\S* of ([\d.]+)\s?([bKMGT])\S* hbm", text)  # a TPU's compiler
  if used:
    return f"needed {_gib(used[1], used[2])}, had {_gib(used[3], used[4])}"
  asked = re.search(r"allocat\w* (?:a buffer of )?([\d.]+)\s?(bytes|[KMGT]i?B|[KMGT])", text)
  needed = f"needed {_gib(asked[1], asked[2])} at once, " if asked else ""
  return f"{needed}had {device_memory() / GIB:.1f} GiB in all"


def device_memory() -> int:
  """Bytes of the first device's memory; of the machine's, where that is what the device works in."""
  import jax

  stats = jax.local_devices()[0].memory_stats() or {}
  return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def told(error: Exception, folders: Sequence[str | os.PathLike[str]]) -> UserError | None:
  """The line for an exception that a full disk or too little memory is behind; None for any other.

  Args:
    folders: what was being written to, where the exception does not say.
  """
  causes = list(_causes(error))
  full = next((cause for cause in causes if disk_full(cause)), None)
  if full is not None:
    place = _place(full, folders)
    return UserError(
      f"could not be written: {_reason(full)}; {_free(place) / GIB:.2f} GiB are free there. What was whole before is "
      "kept: make room, and the same command goes on",
      place,
    )
  short = next((cause for cause in causes if out_of_memory(cause)), None)
  if short is not None and (isinstance(short, MemoryError) or "jax" in sys.modules):
    return UserError(
      f"out of memory ({memory_told(short)}): lower --slots, --target_length or --microbatch_tokens, give --dtype "
      "bfloat16 or a smaller --model"
    )
  return None


def disk_full(error: BaseException) -> bool:
  """Whether an exception says that a file could not be written for want of room (a quota's or limit's, too)."""
  if isinstance(error, OSError) and error.errno in FULL:
    return True
  return not isinstance(error, UserError) and any(text in str(error) for text in FULL_TEXTS)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
  seen: set[int] = set()
  while error is not None and id(error) not in seen:
    seen.add(id(error))
    yield error
    error = error.__cause__ or error.__context__


def _place(error: BaseException, folders: Sequence[str | os.PathLike[str]]) -> str:
  """The file the exception names; else the fullest of the folders."""
  if isinstance(error, OSError) and error.filename:
    return str(error.filename)
  named = re.search(r"[\"'](/[^\"']+)[\"']", str(error))
  if named:
    return named[1]
  return min(map(str, folders), key=_free)


def _free(path: str) -> int:
  place = pathlib.Path(path).absolute()
  while not place.exists():
    place = place.parent
  return shutil.disk_usage(place).free


def _reason(error: BaseException) -> str:
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return next((text for text in FULL_TEXTS[:-1] if text in str(error)), FULL_TEXTS[0])


def _gib(number: str, unit: str) -> str:
  return f"{float(number) * UNITS[unit[0].lower()] / GIB:.1f} GiB"
