"""What the reasoning that a comparison's rows lack will cost, told before anything else is done."""

from __future__ import annotations

import pathlib

from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.reasoning import plan, reasoner
from fiat_jax.reasoning.estimate import estimate
from fiat_jax.reasoning.ledger import Price
from fiat_jax.reasoning.store import Store
from fiat_jax.workbench import Workbench


def tell(bench: Workbench) -> None:
  """Says it where an endpoint is to be asked and rows have no reasoning yet; nothing is asked."""
  settings = bench.settings
  if not settings.beta.startswith(reasoner.ENDPOINT) or not settings.store:
    return
  missing = sum(not row.reasoning for rows in bench.rows.values() for row in rows)
  if not missing:
    return
  asked = reasoner.make(bench.configuration)
  try:
    planned = plan.make(bench.configuration, asked)
  except UserError as e:  # `fiat annotate` refuses it, and this comparison may do without
    return say(f"what {asked.name} would cost cannot be told: {e}")
  store = Store(pathlib.Path(settings.store), "bill")
  pairs = zip(planned.requests, planned.keys, strict=True)
  price = Price.parse(settings.price) if settings.price else None
  found = estimate((request for request, key in pairs if key not in store.kept), asked.count, store)
  if not found.requests:  # they were asked about, in vain
    return
  what = f"fiat annotate is to ask {asked.name} {found.requests} times"
  lines = [f"{missing} rows have no reasoning in {settings.store}: {what}"]
  lines += found.lines(price)
  lines += [] if price else ["in money it is not known: --price INPUT,OUTPUT says what a million tokens cost"]
  say("\n".join(lines))
