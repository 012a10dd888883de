"""What `fiat annotate` will ask, said before it is asked: one request, what leaves this machine, what all costs."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping

from fiat_jax.data.rows import Row
from fiat_jax.reasoning.estimate import estimate
from fiat_jax.reasoning.ledger import Price
from fiat_jax.reasoning.plan import Plan
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Request
from fiat_jax.reasoning.store import Store, exported
from fiat_jax.reasoning.view import RECORDED
from fiat_jax.settings import Settings


@dataclasses.dataclass(frozen=True)
class Preview:
  """Of what a command is to ask. `store` is None where there is none yet, `price` where it is not known."""

  settings: Settings
  planned: Plan
  asked: Reasoner
  store: Store | None
  price: Price | None

  def lines(self, few: int = 0) -> list[str]:
    """All of it; of the first `few` requests alone, where that is not 0."""
    first, count = next(self._left(few), None) or self.planned.requests[0], len(self.planned.requests)
    return [
      f"--- one of {min(few or count, count)} requests, {self.shots()}; {wording(self.asked, first)}",
      rendered(self.asked, first),
      "---",
      *self._sent(),
      *self.costs(few),
    ]

  def shots(self) -> str:
    """How many exemplars a prompt has, and how many there were to be."""
    settings, fit = self.settings, self.planned.shots
    if not settings.exemplars or not settings.shots:
      return "no exemplars"
    fewer = ": more do not fit into every prompt" if fit < settings.shots else ""
    return f"{fit} of {settings.shots} exemplars{fewer}"

  def costs(self, few: int = 0) -> list[str]:
    """How many requests are left, and their cost: low, likely and cap."""
    priced = estimate(self._left(few), self.asked.count, self.store)
    return [f"{priced.requests} requests are to be asked", *priced.lines(self.price)]

  def _left(self, few: int) -> Iterator[Request]:
    """Those that are to be asked: of what came with a fault all where RETRY_FAILED says so."""
    faults = self._faults()
    pairs = zip(self.planned.requests, self.planned.keys, strict=True)
    for request, key in itertools.islice(pairs, few or None):
      fault = faults.get(key)
      if fault is None or (fault and self.settings.retry_failed):
        yield request

  def _faults(self) -> Mapping[str, str]:
    """Of every answer that is there, or that a dry run would take over, its fault; empty where it has none."""
    faults = {key: kept.fault for key, kept in self.store.kept.items()} if self.store else {}
    if self.settings.dry_run and self.settings.import_from:
      for record in exported(pathlib.Path(self.settings.import_from)):
        if record["kind"] == "answer" and faults.get(record["key"]) != "":
          faults[record["key"]] = record["fault"]
    return faults

  def _sent(self) -> list[str]:
    """The columns that prompts are made of, of any row and of any exemplar."""
    settings, planned = self.settings, self.planned
    leaves = f"leaves this machine for {self.asked.endpoint}" if self.asked.remote else "stays on this machine"
    columns = _columns(row for rows in planned.rows.values() for row in rows)
    said = [f"of each row {columns} {leaves}; its column {settings.target!r} is not sent"]
    if planned.candidates:
      columns = f"{_columns(planned.candidates)} and {settings.reasoning}, which gives its answer away,"
      said.append(f"of each exemplar (out of {settings.exemplars}) {columns} {leaves}")
    return said


def wording(asked: Reasoner, request: Request) -> str:
  """What goes with a prompt: the model, the most tokens of the answer, how it is sampled, where it ends."""
  if asked.remote:
    given = {name: value for name, value in _body(asked, request).items() if name not in ("messages", "prompt")}
  else:
    asking = request.asking
    given = {"model": asking.beta, "max_tokens": asking.length, "temperature": asking.temperature}
    given |= {"stop": list(asking.stops)} if asking.stops else {}
  return ", ".join(f"{name} {json.dumps(value, ensure_ascii=False)}" for name, value in given.items())


def rendered(asked: Reasoner, request: Request) -> str:
  """The prompt as it goes out: an endpoint's messages, or with the checkpoint's chat template around it."""
  if asked.remote:
    body = _body(asked, request)
    return body.get("prompt") or "\n".join(f"[{said['role']}] {said['content']}" for said in body["messages"])
  if asked.name == RECORDED:
    return request.prompt
  from fiat_jax.reasoning.engine import EngineReasoner  # which needs JAX

  return asked.described.tokenizer.prompt_string(request.prompt) if isinstance(asked, EngineReasoner) else ""


def _body(asked: Reasoner, request: Request) -> dict:
  from fiat_jax.reasoning.dialect import Dialect  # which needs the client's package

  return Dialect(asked.name, asked.endpoint).body(request)


def _columns(rows: Iterable[Row]) -> str:
  return ", ".join(sorted({name for row in rows for name in row.fields}))
