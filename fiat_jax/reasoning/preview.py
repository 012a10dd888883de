"""What `fiat annotate` will ask, said before it is asked: one request, what leaves this machine, what all costs."""

from __future__ import annotations

from collections.abc import Iterable

from fiat_jax.data.rows import Row
from fiat_jax.reasoning.estimate import estimate
from fiat_jax.reasoning.ledger import Price
from fiat_jax.reasoning.plan import Plan
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.store import Store
from fiat_jax.settings import Settings


def lines(settings: Settings, planned: Plan, asked: Reasoner, store: Store | None, price: Price | None) -> list[str]:
  """All of it."""
  return [
    f"--- one of {len(planned.requests)} requests, {shown(settings, planned)}",
    planned.requests[0].prompt,
    "---",
    *_sent(settings, planned, asked),
    *costs(planned, asked, store, price),
  ]


def shown(settings: Settings, planned: Plan) -> str:
  """How many exemplars a prompt has, and how many there were to be."""
  if not settings.exemplars or not settings.shots:
    return "no exemplars"
  fewer = ": more do not fit into every prompt" if planned.shots < settings.shots else ""
  return f"{planned.shots} of {settings.shots} exemplars{fewer}"


def costs(planned: Plan, asked: Reasoner, store: Store | None, price: Price | None) -> list[str]:
  """How many requests are left, and their cost: low, likely and cap."""
  left = (request for request, key in zip(planned.requests, planned.keys, strict=True) if not _kept(store, key))
  priced = estimate(left, asked.count, store)
  return [f"{priced.requests} requests are to be asked", *priced.lines(price)]


def _sent(settings: Settings, planned: Plan, asked: Reasoner) -> list[str]:
  """The columns that prompts are made of, of any row and of any exemplar."""
  leaves = f"leaves this machine for {asked.endpoint}" if asked.remote else "stays on this machine"
  said = [
    f"of each row {_columns(row for rows in planned.rows.values() for row in rows)} {leaves}; its column "
    f"{settings.target!r} is not sent"
  ]
  if planned.candidates:
    columns = f"{_columns(planned.candidates)} and {settings.reasoning}, which gives its answer away,"
    said.append(f"of each exemplar (out of {settings.exemplars}) {columns} {leaves}")
  return said


def _columns(rows: Iterable[Row]) -> str:
  return ", ".join(sorted({name for row in rows for name in row.fields}))


def _kept(store: Store | None, key: str) -> bool:
  return store is not None and key in store.kept
