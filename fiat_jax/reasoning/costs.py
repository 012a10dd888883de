"""What the big model's reasoning cost, read back from a store: for who compares it with the tuned model alone."""

from __future__ import annotations

import collections
import pathlib
from collections.abc import Iterable

from fiat_jax.data.reasoned import row_key
from fiat_jax.reasoning.records import Records


def per_1000(store: pathlib.Path, inputs: Iterable[str]) -> float | None:
  """Money per 1,000 of these inputs, all that was paid about each counted: samples, and answers that were no use.

  None where it cannot be told: an input has no answer or one without a cost, answers were bought elsewhere or came from
  several models, or an endpoint was asked without a price.
  """
  wanted = {row_key(x) for x in inputs}
  paid, askers = collections.defaultdict[str, float](float), set[tuple[str, str]]()
  for record in Records(store, "answers").fresh():
    if record.get("kind") != "answer" or record["row"] not in wanted:
      continue
    if record["cost"] is None or record.get("imported"):
      return None
    paid[record["row"]] += record["cost"]
    askers.add((record["beta"], record["endpoint"]))
  if not wanted or paid.keys() != wanted or len(askers) != 1:
    return None
  total, ((_, endpoint),) = sum(paid.values()), askers
  return None if endpoint and not total else 1000 * total / len(wanted)
