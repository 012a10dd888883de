"""How many programs JAX made and how many of them it found in the cache that commands share (`runtime.py`); their room.

A program that XLA makes for a CPU is a hundred mappings of memory or more, and Linux lets a process have 65,530: past
them, some hundred programs into a long comparison, the compiler dies of a segmentation fault.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections.abc import Iterator

MADE, FOUND = "/jax/core/compile/backend_compile_duration", "/jax/compilation_cache/cache_hits"

MAPPINGS, MOST_MAPPINGS = pathlib.Path("/proc/self/maps"), 20_000


@dataclasses.dataclass
class Compilations:
  """Programs: all that were made, and those of them that stood in the cache."""

  made: int = 0
  found: int = 0

  def __str__(self) -> str:
    return f"{self.made - self.found} programs were compiled, {self.found} found in the cache"


@contextlib.contextmanager
def counted() -> Iterator[Compilations]:
  """Counts what is made within."""
  from jax import monitoring

  count = Compilations()

  def made(event: str, duration_secs: float, **_: str | int) -> None:
    count.made += event == MADE

  def found(event: str, **_: str | int) -> None:
    count.found += event == FOUND

  monitoring.register_event_duration_secs_listener(made)
  monitoring.register_event_listener(found)
  try:
    yield count
  finally:
    monitoring.unregister_event_duration_listener(made)
    monitoring.unregister_event_listener(found)


def make_room() -> None:
  """Lets go of all programs, where they are many; those that are used again come from the cache."""
  if MAPPINGS.exists() and MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
    import jax

    jax.clear_caches()
