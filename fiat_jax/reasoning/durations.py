"""How long the big model took for the reasoning of test's rows, read back from a store: it comes on top of the tuned
model's own time."""

from __future__ import annotations

import collections
import pathlib
import statistics
from collections.abc import Container, Iterable
from typing import Any

from fiat_jax.data.reasoned import row_key
from fiat_jax.evaluation import latency
from fiat_jax.reasoning.records import Records


def of_inputs(store: pathlib.Path, inputs: Iterable[str], keys: Container[str] | None = None) -> dict[str, Any]:
  """For `results.json`; empty where an input has no answer, or one whose seconds were not told.

  `reasoning_seconds`: per 1,000 of these inputs, one request after another, all that were answered counted.
  `reasoning_latency`: p50 and p95 of an input's, its samples asked at once; not there for few inputs.

  Args:
    keys: of the requests that count; None: all about these inputs.
  """
  wanted = {row_key(x) for x in inputs}
  took = collections.defaultdict[str, dict[str, float]](dict)  # by input and request
  for record in Records(store, "answers").fresh():
    if record.get("kind") != "answer" or record["row"] not in wanted:
      continue
    if keys is not None and record["key"] not in keys:
      continue
    if record.get("seconds") is None:
      return {}
    of_row = took[record["row"]]
    of_row[record["key"]] = of_row.get(record["key"], 0.0) + record["seconds"]
  if not wanted or took.keys() != wanted:
    return {}
  found: dict[str, Any] = {"reasoning_seconds": 1000 * statistics.fmean(sum(one.values()) for one in took.values())}
  timed = latency.quantiles([max(one.values()) for one in took.values()])
  return found | ({"reasoning_latency": timed} if timed else {})
