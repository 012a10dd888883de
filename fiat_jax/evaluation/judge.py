"""Answers judged by a big model behind an endpoint, as INSTRUCTEVAL judges IMPACT's: relevance and coherence, 1 to 5.

A row's targets are what the judge is asked, one for each of `metrics.JUDGED`, with a place for the answer. Judgements
are kept in a store like reasoning: none is paid for twice, and the ledger beside it holds the costs.
"""

from __future__ import annotations

import dataclasses
import pathlib
import re
import uuid
from collections.abc import Sequence

from fiat_jax.errors import UserError
from fiat_jax.evaluation.evaluate import Prediction
from fiat_jax.evaluation.metrics import JUDGED
from fiat_jax.progress import progress, say
from fiat_jax.reasoning.desk import Desk
from fiat_jax.reasoning.ledger import Ledger, Price
from fiat_jax.reasoning.openai import EndpointReasoner
from fiat_jax.reasoning.reasoner import ENDPOINT, require_price
from fiat_jax.reasoning.request import Asking, Request
from fiat_jax.reasoning.store import Store
from fiat_jax.settings import Settings

PLACE = "{text}"  # of the answer in a target
LENGTH = 128  # tokens of a judgement
LOWEST, HIGHEST = 1, 5


def judged(predictions: Sequence[Prediction], names: Sequence[str], settings: Settings) -> list[Prediction]:
  """The predictions with the judge's scores of those of the names that are its.

  Raises:
    UserError: the judge cannot be asked, MAX_COST is reached or has no PRICE, or a judgement did not come; what came
      is kept.
  """
  wanted = [name for name in names if name in JUDGED]
  if not settings.judge.startswith(ENDPOINT):
    raise UserError(f"--judge {settings.judge!r}: give openai:NAME, a model behind an endpoint of OpenAI's protocol")
  asked = dataclasses.replace(settings, beta=settings.judge, beta_url=settings.judge_url, batch_api=False)
  require_price(asked)
  judge = EndpointReasoner(asked)
  asking = Asking(beta=judge.name, endpoint=judge.endpoint, template="chat", length=LENGTH, temperature=0.0)
  requests = [_request(asking, prediction, name) for prediction in predictions for name in wanted]
  texts = _asked(judge, requests, settings)
  scores = iter([_score(text) for text in texts])
  return [dataclasses.replace(p, judged={name: next(scores) for name in wanted}) for p in predictions]


def _request(asking: Asking, prediction: Prediction, name: str) -> Request:
  targets = prediction.row.targets
  if len(targets) != len(JUDGED):
    raise UserError(
      f"the row {prediction.row.id!r} has {len(targets)} targets: what the judge is asked is expected, about "
      f"{' and '.join(JUDGED)}, as fiat prepare impact writes it"
    )
  prompt = targets[JUDGED.index(name)].replace(PLACE, prediction.text, 1)
  return Request(asking=asking, prompt=prompt, sample=0, row=f"{prediction.row.id} {name}", lang=prediction.row.lang)


def _asked(judge: EndpointReasoner, requests: Sequence[Request], settings: Settings) -> list[str]:
  """The judgements, of which those that are not in the store yet are asked for."""
  session = uuid.uuid4().hex[:12]
  store = Store(pathlib.Path(settings.judge_store), session)
  price = Price.parse(settings.price) if settings.price else None
  ledger = Ledger(store.folder, session, settings.max_cost, price.of(store.unpriced) if price else 0.0)
  keys = [request.key for request in requests]
  try:
    ledger.reconcile(store.costs)
    with progress("judging", len(keys), done=sum(key in store.kept for key in keys)) as bar:
      desk = Desk(store, ledger, price, requests, keys, bar.advance, again=settings.retry_failed)
      if len(desk):
        store.begin({"judge": settings.judge, "judge_url": settings.judge_url}, requests[0].prompt)
        judge.run(desk, requests)
    if price:
      say(f"spent {ledger.spent:.4f} on judgements, those of earlier commands included")
  finally:
    ledger.close()
  missing = [key for key in keys if key not in store.kept]
  if missing:
    reason = "--max_cost is reached" if desk.capped else store.failures.get(missing[0], "it did not come")
    raise UserError(
      f"{len(missing)} of {len(keys)} judgements are missing ({reason}): the same command asks for those alone",
      store.folder,
    )
  return [store.text(key) for key in keys]


def _score(text: str) -> float:
  """INSTRUCTEVAL's reading: the last digit of the text; without one, or with one out of range, the lowest score."""
  digits = re.findall("[0-9]", text)
  score = int(digits[-1]) if digits else LOWEST
  return float(score if LOWEST <= score <= HIGHEST else LOWEST)
