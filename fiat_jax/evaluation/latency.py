"""How long one answer takes when nobody else asks: rows one after another, compiling left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fiat_jax import processes, stopwatch
from fiat_jax.data.batches import Shard
from fiat_jax.data.row import Row
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.likelihood import share
from fiat_jax.decoding.request import Request
from fiat_jax.evaluation.evaluate import label_scores

MOST, FEWEST = 20, 10  # prompts; fewer do not tell
ENOUGH = 20.0  # seconds after which the fewest do


def measured(engine: Engine, shard: Shard, target_length: int) -> dict[str, float]:
  """Seconds of greedy answers to the first prompts: `p50`, `p95`, and of how many `rows`; empty where there are few."""
  if len(shard) < FEWEST:
    return {}
  requests = [[Request(tokens=shard[n].inputs.tolist(), max_new_tokens=target_length)] for n in range(len(shard))]
  return of_requests(engine, requests, shard.shared_prefix())


def of_labels(engine: Engine, tokenizer: Tokenizer, rows: Sequence[Row], shard: Shard) -> dict[str, float]:
  """The same of rows whose label is chosen; what all prompts begin with is computed once, and not timed."""
  if len(rows) < FEWEST:
    return {}
  known = share(engine.model, engine.weights, shard[0].inputs[: shard.shared_prefix()].tolist())

  def choose(number: int) -> None:
    label_scores(engine, tokenizer, rows[number].labels, shard[number].inputs.tolist(), known)

  return _timed(len(rows), choose)


def of_requests(engine: Engine, asked: Sequence[Sequence[Request]], shared: int) -> dict[str, float]:
  """The same of requests, a row's together where it takes several.

  Args:
    shared: so many first tokens are the same in all, and not the whole of any: they are computed once, and not timed.
  """
  if len(asked) < FEWEST:
    return {}
  every = [request for of_row in asked for request in of_row]
  session = Session(engine, Lengths.of(every), every[0].tokens[:shared])

  def decode(number: int) -> None:
    for request in asked[number]:
      session.add(request)
    while session:
      session.advance()

  return _timed(len(asked), decode)


def _timed(count: int, answer: Callable[[int], None]) -> dict[str, float]:
  """The quantiles of the first of so many rows. All processes answer as many: the first one's clock."""
  seconds: list[float] = []
  for number in range(min(count, MOST)):
    if processes.of_first(len(seconds) >= FEWEST and sum(seconds) > ENOUGH):
      break
    with stopwatch.warm() as elapsed:
      answer(number)
    seconds.append(elapsed.seconds)
    processes.check_signals()
  return quantiles(seconds)


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
  """The same of rows that took so long each."""
  if len(seconds) < FEWEST:
    return {}
  low, high = np.quantile(seconds, (0.5, 0.95))
  return {"p50": round(float(low), 4), "p95": round(float(high), 4), "rows": len(seconds)}
