"""The big model as a deployment asks it: a row's reasoning from the store, or else bought within the limits.

Equal questions that are under way are asked once. What comes back is kept while it is read, for nobody is to wait for
the disk; its worst case stays reserved until it is kept, so that limits hold whatever happens. What may have been
charged without an answer counts as spent. Store and ledger are touched by one thread alone.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import pathlib
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import openai

from fiat_jax.data.reasoned import row_key
from fiat_jax.data.row import Row
from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.reasoning import exemplars
from fiat_jax.reasoning.answers import AnswerRule, vote
from fiat_jax.reasoning.api_key import brief
from fiat_jax.reasoning.dialect import never_left, told, wait_of
from fiat_jax.reasoning.estimate import room_taken
from fiat_jax.reasoning.exemplars import Question
from fiat_jax.reasoning.ledger import Price
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Answer, Asking, Claim, Request
from fiat_jax.reasoning.store import Store
from fiat_jax.reasoning.view import RECORDED
from fiat_jax.serving.books import Books, Elsewhere, Full
from fiat_jax.serving.turns import Turns, Unanswered
from fiat_jax.settings import Settings

POLL_SECONDS = 0.2  # between two looks for an answer that another process waits for

Ask = Callable[[Request], Awaitable[Answer]]


class Reasoning(NamedTuple):
  """A row's reasoning and where it is from (`row`, `store` or `beta`).

  Where it was asked for: the tokens and the cost of all its samples, and the seconds that the model took. `missing`:
  of how many samples nothing came, and why.
  """

  text: str
  source: str
  tokens: tuple[int, int] | None = None
  cost: float = 0.0
  seconds: float = 0.0
  missing: str = ""


class Beta:
  """Gives reasoning about rows.

  Args:
    reasoner: names the model and counts prompts.
    ask: what it says to one request; within the time-out or not at all.
    folder: of the store.
    room: tokens of prompt and answer that are taken, where these are fewer than the model's context.
    turns: of an endpoint; without, all is asked at once.
  """

  def __init__(
    self,
    settings: Settings,
    reasoner: Reasoner,
    ask: Ask,
    folder: pathlib.Path,
    *,
    room: int | None = None,
    turns: Turns | None = None,
  ):
    self._settings, self._reasoner, self._ask = settings, reasoner, ask
    self._template = ReasoningPrompt.parse(settings.reasoning_instruction)
    self._shown = exemplars.load(settings)
    self._rule = AnswerRule.parse(settings.answer) if settings.answer else None
    self._price = Price.parse(settings.price) if settings.price and reasoner.remote else None
    if settings.max_cost_a_day and reasoner.remote and self._price is None:
      raise UserError("--max_cost_a_day cannot be kept without the price: give --price INPUT,OUTPUT")
    self._asking = Asking.of(settings, reasoner)
    self._room, self._turns = room or reasoner.context, turns
    self._writer = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="books")
    self._store = Store(folder, uuid.uuid4().hex[:12])
    self._books = None
    if self._price:
      before = self._price.of(self._store.unpriced)
      self._books = Books(self._store, settings.max_cost, settings.max_cost_a_day, before)
    self._under_way: dict[str, asyncio.Task[Reasoning]] = {}
    self._fresh: dict[str, str] = {}  # texts that have come and are being kept
    self._keeping = set[asyncio.Task[None]]()

  @property
  def name(self) -> str:
    return self._reasoner.name

  async def of(self, row: Row) -> Reasoning:
    """The row's reasoning. Raises Unanswered where there is none."""
    if row.reasoning:
      return Reasoning(row.reasoning, "row")
    if self._settings.beta == RECORDED:
      raise Unanswered(f"the row has no {self._settings.reasoning!r}, and the deployment names no big model", 422)
    came = await asyncio.gather(*map(self._sample, self._requests(row)), return_exceptions=True)
    said = [sample for sample in came if isinstance(sample, Reasoning)]
    failed = [failure for failure in came if isinstance(failure, Unanswered)]
    for failure in came:
      if isinstance(failure, BaseException) and not isinstance(failure, Unanswered):
        raise failure
    cost = sum(sample.cost for sample in (*said, *failed))
    if not said:
      raise Unanswered(str(failed[0]), failed[0].status, cost=cost, wait=failed[0].wait)
    missing = f"{len(failed)} of {len(came)} samples did not come: {failed[0]}" if failed else ""
    return self._voted(said, cost)._replace(missing=missing)

  def _voted(self, said: Sequence[Reasoning], cost: float) -> Reasoning:
    """The one whose answer most samples have, with what all of them took (`reasoning/outcome.py` does the same)."""
    winner = 0
    if self._rule is not None:
      voted = vote([self._rule.read(sample.text) for sample in said])
      if voted is None:
        raise Unanswered("the big model's answer cannot be used: --answer finds no answer in it", cost=cost)
      winner = voted[0]
    bought = [sample for sample in said if sample.source == "beta"]
    told = [sample.tokens for sample in bought if sample.tokens]
    return Reasoning(
      said[winner].text,
      "beta" if bought else "store",
      (sum(read for read, _ in told), sum(written for _, written in told)) if told else None,
      cost,
      max((sample.seconds for sample in bought), default=0.0),
    )

  async def _sample(self, request: Request) -> Reasoning:
    if request.key in self._fresh:
      return Reasoning(self._fresh[request.key], "store")
    if self._store.answered(request.key):
      return Reasoning(self._store.text(request.key), "store")
    if request.key not in self._under_way:
      task = asyncio.create_task(self._bought(request))
      self._under_way[request.key] = task
      task.add_done_callback(lambda _: self._under_way.pop(request.key, None))
    return await asyncio.shield(self._under_way[request.key])  # one client that leaves takes it from no other

  def _requests(self, row: Row) -> list[Request]:
    """The question, with as many exemplars as fit, once a sample."""
    question = Question(row.x, row.lang, frozenset([row.group]))
    for count in range(self._settings.shots if self._shown else 0, -1, -1):
      shots = self._shown.of(question, count) if self._shown and count else ()
      prompt = self._template.render(row.x, shots)
      if self._room is None or room_taken(self._reasoner, [prompt])[0] + self._settings.reasoning_length <= self._room:
        return [
          Request(asking=self._asking, prompt=prompt, sample=n, row=row_key(row.x), lang=row.lang)
          for n in range(self._settings.samples)
        ]
    message = f"the question and its answer are longer than the {self._room} tokens that the big model takes here"
    raise Unanswered(message, 422)

  async def _bought(self, request: Request) -> Reasoning:
    async with self._turns.of(request) if self._turns else contextlib.nullcontext():
      return await self._claimed(request)

  async def _claimed(self, request: Request) -> Reasoning:
    """Asked by this process alone, unless another was quicker."""
    until = time.monotonic() + self._settings.timeout
    while True:
      try:
        found = await self._reserved(request)
      except Elsewhere:
        if time.monotonic() > until:
          raise Unanswered("another process asks the same, and has no answer yet", 504) from None
        await asyncio.sleep(POLL_SECONDS)
      else:
        return found if isinstance(found, Reasoning) else await self._asked(request, Claim(request.asked, found))

  async def _asked(self, request: Request, claim: Claim) -> Reasoning:
    began = time.monotonic()
    try:
      async with asyncio.timeout(self._settings.timeout):
        answer = await self._ask(request)
    except TimeoutError:
      await self._closed(claim, lost=True)
      raise Unanswered(f"no answer of the big model within {self._settings.timeout:g} s", 504) from None
    except Unanswered as e:
      await self._closed(claim, lost=e.charged)
      raise
    answer, seconds = answer.ended_before(self._asking.stops), time.monotonic() - began
    unknown = None if self._price or self._reasoner.remote else 0.0
    cost = self._price.of(answer.tokens) if self._price and answer.tokens else unknown
    if not answer.fault:
      self._fresh[request.key] = answer.text
    task = asyncio.create_task(self._kept(claim, answer, cost))
    self._keeping.add(task)
    task.add_done_callback(self._keeping.discard)
    if answer.fault:
      raise Unanswered(f"the big model's answer cannot be used: {answer.fault}", cost=cost or 0.0)
    return Reasoning(answer.text, "beta", answer.tokens, cost or 0.0, seconds)

  async def _reserved(self, request: Request) -> str | Reasoning:
    """A reservation's id, empty where nothing is counted; or what other commands have bought meanwhile.

    Raises:
      Unanswered: a limit leaves no room, or the answer was bought and cannot be used.
      Elsewhere: another process is asking.
    """
    try:
      return await self._written(lambda: self._reserve(request))
    except Full as e:
      raise Unanswered(str(e), 429) from None
    except (UserError, OSError) as e:  # a full disk, say: the policy holds
      raise Unanswered(f"what it costs cannot be booked: {e}", 503) from None

  def _reserve(self, request: Request) -> str | Reasoning:
    """The same, on the books' thread; another process may be answered before a reservation, and while it is made."""
    found, books = self._known(request), self._books
    if found or not (books and self._price):
      return found or ""
    id = books.reserve(request.key, self._price.of(request.most_tokens))
    try:
      found = self._known(request)
    except Unanswered:
      books.release(id)
      raise
    if found:
      books.release(id)
    return found or id

  def _known(self, request: Request) -> Reasoning | None:
    """What the store holds by now. Raises Unanswered for an answer that cannot be used and was paid for."""
    self._store.refresh()
    kept = self._store.kept.get(request.key)
    if kept is None or (kept.fault and self._settings.retry_failed):
      return None
    if kept.fault:
      raise Unanswered(f"the big model's answer, of before, cannot be used: {kept.fault}; --retry_failed asks again")
    return Reasoning(self._store.text(request.key), "store")

  async def _closed(self, claim: Claim, *, lost: bool) -> None:
    books, id = self._books, claim.reservation
    if books:
      await self._written(lambda: books.settle(id, None) if lost else books.release(id))

  async def _kept(self, claim: Claim, answer: Answer, cost: float | None) -> None:
    """Into the store, where equal questions find it; then the ledger is settled."""

    def keep() -> None:
      self._store.add([(claim, answer, cost)])
      if self._books:
        self._books.settle(claim.reservation, cost)

    try:
      await self._written(keep)
      self._fresh.pop(claim.asked.key, None)
    except Exception as e:  # a full disk: the answer is in memory, and what it cost stays reserved
      say(f"warning: the big model's answer could not be kept: {e}")

  async def _written(self, work: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(self._writer, work)

  async def close(self) -> None:
    """Waits until all that came is kept and settled."""
    if self._keeping:
      await asyncio.wait(self._keeping)
    self._writer.shutdown()
    if self._books:
      self._books.close()


def over_http(client: openai.AsyncOpenAI, once: Callable[..., Awaitable[Answer]]) -> Ask:
  """Asks an endpoint once: who waits for a row waits for no second attempt."""

  async def ask(request: Request) -> Answer:
    began = time.monotonic()
    try:
      return await once(client, request)
    except openai.APITimeoutError as e:
      reason = f"no answer of the big model in {time.monotonic() - began:.1f} s"
      raise Unanswered(reason, 504, charged=not never_left(e)) from None
    except openai.APIConnectionError as e:
      reason = f"no connection to the big model: {brief(e.__cause__ or e)}"
      raise Unanswered(reason, charged=not never_left(e)) from None
    except openai.APIStatusError as e:
      reason = f"the big model's endpoint refuses: {told(e.status_code, e.message)}"
      busy = e.status_code == 429
      raise Unanswered(reason, 429 if busy else 502, wait=max(1.0, wait_of(e)) if busy else 0.0) from None
    except (openai.APIError, ValueError) as e:
      raise Unanswered(f"a broken answer of the big model: {brief(e)}", charged=True) from None

  return ask
