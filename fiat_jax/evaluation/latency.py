"""How long one answer takes when nobody else asks: prompts one after another, compiling left out."""

from __future__ import annotations

import numpy as np

from fiat_jax import signals, stopwatch
from fiat_jax.data.batches import Shard
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Request

MOST, FEWEST = 20, 10  # prompts; fewer do not tell
ENOUGH = 20.0  # seconds after which the fewest do


def measured(engine: Engine, shard: Shard, target_length: int) -> dict[str, float]:
  """Seconds of greedy answers to the first prompts: `p50`, `p95`, and of how many `rows`; empty where there are few."""
  if len(shard) < FEWEST:
    return {}
  requests = [Request(tokens=shard[n].inputs.tolist(), max_new_tokens=target_length) for n in range(len(shard))]
  session = Session(engine, Lengths.of(requests), requests[0].tokens[: shard.shared_prefix()])
  seconds: list[float] = []
  for request in requests[:MOST]:
    if len(seconds) >= FEWEST and sum(seconds) > ENOUGH:
      break
    session.add(request)
    with stopwatch.warm() as elapsed:
      while session:
        session.advance()
    seconds.append(elapsed.seconds)
    signals.check()
  low, high = np.quantile(seconds, (0.5, 0.95))
  return {"p50": round(float(low), 4), "p95": round(float(high), 4), "rows": len(seconds)}
