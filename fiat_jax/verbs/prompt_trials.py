"""One search of prompts: its wordings, what trying them takes, and the trying, one after another."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax.configuration import Configuration
from fiat_jax.data import splits
from fiat_jax.data.rows import Row, read_rows
from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.reasoning import candidates, reasoner
from fiat_jax.reasoning.candidates import Candidate, Sought
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Request
from fiat_jax.settings import Settings
from fiat_jax.verbs import asking, prompt_scoring
from fiat_jax.verbs import budget as budgeting
from fiat_jax.verbs.budget import Budget
from fiat_jax.verbs.forecast import Forecast, of_requests
from fiat_jax.verbs.prompt_scoring import ANSWERS, Prepare
from fiat_jax.whole import write_whole

FEWEST = 4  # groups of rows to choose wordings on
TRAIL = f"{ANSWERS}.jsonl"


@dataclasses.dataclass(kw_only=True)
class Trials:
  """Of some instructions, on some rows.

  Attributes:
    home: where the trail goes.
    rows: that wordings are scored on, read from `path`; `others` are the other validation rows.
    beta: the big model, where it is asked.
    done: nothing is left to be asked; known after `plan`.
  """

  configuration: Configuration
  names: Sequence[Sought]
  home: pathlib.Path
  path: str
  others: str
  rows: Sequence[Row]
  beta: Reasoner | None
  done: bool = False

  @classmethod
  def of(cls, configuration: Configuration, names: Sequence[Sought], home: pathlib.Path) -> Trials:
    """Reads the rows; nothing is asked.

    Raises:
      UserError: there are too few.
    """
    settings = configuration.settings
    path, others = splits.halves(settings.bare_files()["validation"], settings.search_share, settings.split_seed)
    asks = "reasoning_instruction" in names or any(candidates.count(settings, name) for name in names)
    beta = reasoner.make(configuration) if asks else None
    rows = _rows(settings, path, others)
    return cls(configuration=configuration, names=names, home=home, path=path, others=others, rows=rows, beta=beta)

  def __post_init__(self) -> None:
    settings = self.configuration.settings
    shown = _shown(settings) if any(candidates.count(settings, name) for name in self.names) else []
    self._proposals: dict[Sought, list[Request]] = {}
    for name in self.names:
      self._proposals[name] = candidates.proposals(settings, self.beta, name, shown) if self.beta else []
    self._prepare: dict[Sought, Prepare] = {
      name: prompt_scoring.prepared(self.configuration, name, self.rows, self.path, self.home, self.beta)
      for name in self.names
    }

  def plan(self, budget: Budget) -> float:
    """Says what it will take; the money by estimate, infinite where nobody knows.

    Raises:
      UserError: that is more than the budget, or as `require_prices`.
    """
    found, settings = [self._forecast(name) for name in self.names], self.configuration.settings
    budgeting.require_prices(found, budget)
    minutes, money = sum(one.minutes or 0.0 for one in found), sum(one.money for one in found)
    self.done = all(one.done for one in found)
    say(budgeting.table(found, [one.name for one in found], budget, ("search of prompts", "wordings")))
    if not self.done and self.beta and self.beta.remote and not settings.price:
      say("the money is not known: --price INPUT,OUTPUT says what a million tokens cost")
    self._show_proposals()
    if minutes > budget.minutes or money > budget.money:
      raise UserError(f"--budget {settings.budget} allows no search of prompts: raise it, or try fewer wordings")
    return money

  def _show_proposals(self) -> None:
    """What else of the rows the big model is shown than `fiat annotate` shows it."""
    requests = [request for name in self.names for request in self._unwritten(name)]
    if not requests or not self.beta:
      return
    where = f"leave this machine for {self.beta.endpoint}" if self.beta.remote else "are shown to it"
    say(f"wordings that the big model is asked for: {len(requests)}; some training rows, with their targets, {where}")
    if self.configuration.settings.dry_run:
      say(f"--- one of these requests\n{requests[0].prompt}\n---")

  def run(self) -> dict[str, str]:
    """The best wording of each; the trail is written as it comes.

    Raises:
      UserError: MAX_COST is reached, or answers are missing.
    """
    for name in self.names:  # before the tuned model's weights are read: two models are not in memory together
      self._propose(name)
    found = {name: self._known(name) for name in self.names}
    said: list[dict[str, Any]] = []
    chosen: dict[str, str] = {}
    for name in self.names:
      wordings, faults = found[name]
      if name == "instruction":
        self.beta = None
      tried = self._try(name, wordings, said)
      best = max(tried, key=lambda one: one["score"])  # of equals the first
      best["chosen"] = True
      chosen[name] = best["text"]
      said += [*tried, *({"setting": name, "by": "beta", **fault, "chosen": False} for fault in faults)]
      self._write(said)
      told = f"{best['score']:.1f} {best['metric']} on {len(self.rows)} rows, after {tried[0]['score']:.1f}"
      if len(tried) > 1 and len({one["score"] for one in tried}) == 1:
        told += f", as under all {len(tried)} wordings: these rows do not tell them apart, and the first stays"
      elif best is not tried[0] and (best["above_set"] is None or best["above_set"][0] <= 0):
        told += ", which so few rows do not show to be better than the one that is set"
      say(f"--{name}: {told}: {best['text']!r}")
    return chosen

  def _propose(self, name: Sought) -> None:
    if (requests := self._proposals[name]) and self.beta:
      title = f"writing wordings of --{name}"
      asking.ask(prompt_scoring.of_requests(self.configuration, title, self.beta, requests))

  def _known(self, name: Sought) -> tuple[list[Candidate], list[dict[str, str]]]:
    """The wordings that there are, each once, hand-written ones first; and what came that is none."""
    settings, faults = self.configuration.settings, []
    own = Candidate(text=getattr(settings, name), by="settings")
    found = [own, *(one for one in candidates.given(settings, name) if one.text != own.text)]
    if requests := self._proposals[name]:
      store = prompt_scoring.store_of(self.configuration)
      for request in (request for request in requests if request.key in store.kept):
        text, fault = store.text(request.key), store.kept[request.key].fault
        wording = candidates.proposed(text, own.text)
        known = wording and wording.text in {one.text for one in found}
        if fault or known or not wording:
          faults.append({"text": text, "fault": fault or ("stands there already" if known else "empty")})
        else:
          found.append(wording)
    return found, faults

  def _try(
    self, name: Sought, wordings: Sequence[Candidate], said: Sequence[Mapping[str, Any]]
  ) -> list[dict[str, Any]]:
    metric, tried = self.configuration.settings.metrics[0], list[dict[str, Any]]()
    prepare = self._prepare.pop(name)  # with all that it holds
    first = None
    for candidate in wordings:
      told, values = prompt_scoring.score(prepare(candidate.text), self.rows, metric, first)
      first = values if first is None else first
      tried.append({"setting": name, **dataclasses.asdict(candidate), **told, "chosen": False})
      self._write([*said, *tried])
    return tried

  def _write(self, said: Sequence[Mapping[str, Any]]) -> None:
    write_whole(self.home / TRAIL, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in said))

  def _forecast(self, name: Sought) -> Forecast:
    """What is left to be asked. Wordings that are not written yet count as long as the one that there is."""
    settings, parts = self.configuration.settings, list[tuple[float | None, float]]()
    wordings, _ = self._known(name)
    for n, candidate in enumerate(wordings):
      asked = self._prepare[name](candidate.text)
      pairs = list(zip(asked.plan.requests, asked.plan.keys, strict=True))
      left = [request for request, key in pairs if key not in asked.store.kept]
      parts.append(of_requests(left, asked.reasoner, asked.store, asked.settings))
      if n == 0 and self.beta and (missing := self._unwritten(name)):
        like = of_requests([request for request, _ in pairs], asked.reasoner, asked.store, asked.settings)
        own = of_requests(missing, self.beta, prompt_scoring.store_of(self.configuration), settings)
        parts += [*[like] * len(missing), own]
    minutes = None if any(part[0] is None for part in parts) else sum(part[0] or 0.0 for part in parts)
    money, count = sum(part[1] for part in parts), len(wordings) + len(self._unwritten(name))
    title = f"--{name}, on {len(self.rows)} rows of validation"
    return Forecast(name=name, title=title, runs=count, minutes=minutes, money=money, done=minutes == money == 0)

  def _unwritten(self, name: Sought) -> list[Request]:
    requests = self._proposals[name]
    kept = prompt_scoring.store_of(self.configuration).kept if requests else {}
    return [request for request in requests if request.key not in kept]


def _rows(settings: Settings, path: str, others: str) -> Sequence[Row]:
  """The rows of the search, which nothing else is chosen on."""
  rows, rest = (read_rows(part, settings.layout) for part in (path, others))
  assert not {row.group for row in rows} & {row.group for row in rest}, "a group is on one side as a whole"
  assert not {row.x for row in rows} & {row.x for row in rest}
  groups = len({row.group for row in rows})
  if groups < FEWEST or not len(rest):
    raise UserError(
      f"the search of prompts gets {len(rows)} of {len(rows) + len(rest)} rows, in {groups} groups, and needs "
      f"{FEWEST} groups and some rows left: give more validation rows, or another --search_share",
      settings.file("validation"),
    )
  return rows


def _shown(settings: Settings) -> list[Row]:
  """Training rows that share neither input nor group with any row of the other splits."""
  found = {split: read_rows(path, settings.layout) for split, path in settings.bare_files().items()}
  others = [row for split, rows in found.items() if split != "train" for row in rows]
  shown = candidates.apart(found["train"], others)
  if not shown:
    raise UserError("no training row can be shown to propose wordings by: all of them stand in other splits too")
  return shown
