"""How long work takes without what JAX compiles for it: the first to use a program is not the slower for it."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence

COMPILING = "/jax/core/compile/"  # how the events begin whose time spans JAX tells: tracing, lowering, compiling


@dataclasses.dataclass
class Elapsed:
  """`seconds` is known when the work is done."""

  seconds: float = 0.0


@contextlib.contextmanager
def warm() -> Iterator[Elapsed]:
  """Measures the work within, by the wall clock, compiling left out."""
  from jax import monitoring

  elapsed, spans = Elapsed(), list[tuple[float, float]]()

  def hear(event: str, start_time: float, end_time: float, **_: str | int) -> None:
    if event.startswith(COMPILING):
      spans.append((start_time, end_time))

  monitoring.register_event_time_span_listener(hear)
  started = time.monotonic()
  try:
    yield elapsed
  finally:
    elapsed.seconds = max(0.0, time.monotonic() - started - covered(spans))
    monitoring.unregister_event_time_span_listener(hear)


def covered(spans: Sequence[tuple[float, float]]) -> float:
  """The length of what spans cover together; programs are traced within programs."""
  total, reached = 0.0, float("-inf")
  for start, end in sorted(spans):
    total += max(0.0, end - max(start, reached))
    reached = max(reached, end)
  return total
