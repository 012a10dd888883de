"""`fiat annotate`: a big model's reasoning about every row of every split, bought once and kept in a store."""

from __future__ import annotations

import collections
import pathlib
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fiat_jax import cluster, limits, processes, runtime
from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.progress import progress, say, silent
from fiat_jax.reasoning import outcome, plan, reasoner, view
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.reasoning.desk import Desk
from fiat_jax.reasoning.ledger import Ledger, Price
from fiat_jax.reasoning.outcome import Outcome
from fiat_jax.reasoning.plan import Plan
from fiat_jax.reasoning.preview import Preview, rendered
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Request
from fiat_jax.reasoning.store import Store, exported
from fiat_jax.reasoning.view import RECORDED
from fiat_jax.settings import Settings

if TYPE_CHECKING:
  from fiat_jax.reasoning.engine import EngineReasoner

MOST_SHOWN = 5  # lenient readings


def main(configuration: Configuration) -> None:
  """Asks what is not answered yet, and makes the view that other verbs read.

  Raises:
    UserError: a setting is missing or wrong, the cap is reached, or fewer rows than COMPLETENESS have reasoning.
  """
  settings = configuration.settings
  price = Price.parse(settings.price) if settings.price else None
  _check(settings)
  if "reasoning_instruction" in settings.sought:
    from fiat_jax.verbs import prompt_search  # which needs JAX

    configuration = prompt_search.of_annotate(configuration)
  rule = AnswerRule.parse(settings.answer) if settings.answer else None
  cluster.join(settings)
  if processes.count() > 1:
    runtime.start(settings)  # what all refuse is refused before one leads the others
    engine = _engine(configuration)
    processes.check_same("the weights of the big model", engine.described.fingerprint)
    if not processes.first():
      return engine.follow()
  with processes.led():
    _ask(configuration, price, rule)


def _ask(configuration: Configuration, price: Price | None, rule: AnswerRule | None) -> None:
  settings = configuration.settings
  session = uuid.uuid4().hex[:12]
  folder = pathlib.Path(settings.store)
  store = Store(folder, session) if settings.store and not (settings.dry_run and not folder.exists()) else None
  if settings.import_from and settings.dry_run:
    count = sum(record["kind"] == "answer" for record in exported(pathlib.Path(settings.import_from)))
    say(f"{settings.import_from} holds {count} answers: a dry run counts them, and takes none over")
  elif store and settings.import_from:
    say(f"{store.take_over(pathlib.Path(settings.import_from))} answers taken over from {settings.import_from}")
  if settings.files_given():
    asked = reasoner.make(configuration)
    planned = plan.make(configuration, asked)
    if settings.dry_run or store is None:
      seen = Preview(settings, planned, asked, store, price)
      print("\n".join(seen.lines(_few(settings, planned))))
    else:
      _annotate(configuration, planned, asked, store, price, rule)
  if store and settings.export_to:
    say(f"{settings.export_to} holds {store.export(pathlib.Path(settings.export_to))} answers")


def _engine(configuration: Configuration) -> EngineReasoner:
  """The model that several processes compute together.

  Raises:
    UserError: nothing is computed here, and one process asks as fast as several.
  """
  from fiat_jax.reasoning.engine import EngineReasoner

  asked, settings = reasoner.make(configuration), configuration.settings
  if not isinstance(asked, EngineReasoner) or settings.dry_run or not settings.files_given():
    raise UserError("several processes (--processes) are of use where a model runs on this machine: start one")
  return asked


def _check(settings: Settings) -> None:
  if not settings.files_given() and not (settings.export_to or settings.import_from):
    raise UserError("no rows to ask about: give --data FILE, or --train, --validation and --test")
  if not settings.store and not settings.dry_run:
    raise UserError("no place for the answers: give --store FOLDER, or --dry_run to ask nothing")
  if settings.files_given():
    limits.check_input(settings)
  reasoner.require_price(settings)
  if settings.filter_gold and "train" not in settings.bare_files():
    raise UserError("--filter_gold is about training rows and there are none: on other rows it would show the answers")
  if settings.batch_api and not settings.beta.startswith(reasoner.ENDPOINT):
    raise UserError(f"--batch_api: {settings.beta!r} is no endpoint, which alone has one; leave it out")


def _annotate(
  configuration: Configuration,
  planned: Plan,
  asked: Reasoner,
  store: Store,
  price: Price | None,
  rule: AnswerRule | None,
) -> None:
  settings = configuration.settings
  few, seen = _few(settings, planned), Preview(settings, planned, asked, store, price)
  requests, keys = (planned.requests[:few], planned.keys[:few]) if few else (planned.requests, planned.keys)
  _check_batches(settings, store, keys)
  ledger = Ledger(store.folder, store.session, settings.max_cost, price.of(store.unpriced) if price else 0.0)
  try:
    ledger.reconcile(store.costs)
    before = sum(key in store.kept for key in keys)
    with progress("asking", len(keys), done=before) as bar:
      charge = price if asked.remote else None
      desk = Desk(store, ledger, charge, requests, keys, bar.advance, again=settings.retry_failed)
      if len(desk):
        if asked.name != RECORDED and not silent():
          say("\n".join(seen.lines(few)))
        say(f"{asked.name}, {seen.shots()}; {len(desk)} requests to ask, {before} answered before")
        store.begin(view.asked(settings), requests[0].prompt)
      unasked = ""
      try:
        if len(desk):
          asked.run(desk, planned.requests)
      except UserError as e:
        unasked = f"left unanswered: {e}"
        raise
      finally:
        found = _keep(settings, planned, store, rule, unasked)
        _say_state(configuration, found, ledger, price)
  finally:
    ledger.close()
  if settings.limit:
    print("\n\n".join(_worked(asked, request, store, found) for request in requests[:: planned.samples]))
  elif settings.pilot:
    print("\n".join(seen.costs()))
  else:
    _judge(settings, found, desk)


def _check_batches(settings: Settings, store: Store, keys: Sequence[str]) -> None:
  waiting = 0 if settings.batch_api else sum(key in store.batches.of for key in keys)
  if waiting:
    raise UserError(
      f"{waiting} of these requests are in batches at the endpoint, and paid for there: add --batch_api, which waits "
      "for them",
      settings.store,
    )


def _keep(settings: Settings, planned: Plan, store: Store, rule: AnswerRule | None, unasked: str) -> dict[str, Outcome]:
  """Makes the view, `failed.jsonl` and `rows/` say what the store holds now, and why what is left is left."""
  with store.looked_at():
    found = outcome.outcomes(planned, store, rule)
    view.write(settings, outcome.records(planned, store, found), found)
    outcome.write_failed(store.folder / "failed.jsonl", planned, found, unasked)
    outcome.write_rows(store.folder / "rows", settings, planned, store, found)
  return found


def _say_state(configuration: Configuration, found: Mapping[str, Outcome], ledger: Ledger, price: Price | None) -> None:
  count = outcome.counts(found)
  spent = f"spent {ledger.spent:.4f}"
  if ledger.unsettled:
    spent += f", of which {ledger.unsettled:.4f} may not have been charged (no answer came)"
  line = f"{count['done']} rows done, {count['failed']} failed, {count['left']} left"
  say(f"{line}; {spent}" if price or ledger.spent else line)
  if count["lenient"]:
    values = collections.Counter(o.lenient for o in found.values() if o.lenient is not None).most_common(MOST_SHOWN)
    shown = ", ".join(f"{value!r} ({times})" for value, times in values)
    say(
      f"answers: {count['strict']} strict (by --answer), {count['lenient']} lenient alone (by the last line; the rows "
      f"count as failed, and failed.jsonl has what was read): {shown}{', …' if len(values) == MOST_SHOWN else ''}"
    )
  if count["left"]:
    say(f"to go on: {configuration.command}")


def _judge(settings: Settings, found: Mapping[str, Outcome], desk: Desk) -> None:
  done = sum(outcome.done for outcome in found.values())
  if desk.capped and len(desk):
    raise UserError(
      f"--max_cost {settings.max_cost:g} is reached with {done} of {len(found)} rows done: raise it", settings.store
    )
  if done < settings.completeness * len(found):
    raise UserError(
      f"{done} of {len(found)} rows have reasoning, fewer than --completeness {settings.completeness:g}: failed.jsonl "
      "says why of each; --retry_failed asks about those again",
      settings.store,
    )
  print(
    f"{settings.store} holds the reasoning of {done} of {len(found)} inputs: give --store {settings.store} to the "
    "other verbs"
  )


def _few(settings: Settings, planned: Plan) -> int:
  """How many requests this command asks; 0: all."""
  return (settings.limit or settings.pilot) * planned.samples


def _worked(asked: Reasoner, request: Request, store: Store, found: Mapping[str, Outcome]) -> str:
  o = found[request.row]
  text = store.text(o.key) if o.key else ""
  lenient = "" if o.lenient is None else f" (leniently: {o.lenient})"
  read = f"answer: {o.answer}" if o.done else f"failed: {o.fault}{lenient}" if o.fault else "not asked yet"
  return f"--- prompt ({request.lang})\n{rendered(asked, request)}\n--- reasoning\n{text}\n--- {read}"
