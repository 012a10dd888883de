"""The one thread that touches the engine: requests go in through a queue, news come out on the event loop.

Places are counted on the event loop's side, so that a full queue is known before anything is handed over.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import queue
import threading
import time
from collections.abc import Sequence

from fiat_jax import sharding
from fiat_jax.decoding.engine import Session
from fiat_jax.decoding.request import Completion, Request
from fiat_jax.serving.growing import News
from fiat_jax.serving.job import Job
from fiat_jax.serving.metrics import Metrics
from fiat_jax.serving.refusal import Refusal

LONGEST_RETRY = 60  # seconds that a client is asked to wait at the most


@dataclasses.dataclass(frozen=True)
class _Add:
  ticket: int
  request: Request
  grows: bool


@dataclasses.dataclass(frozen=True)
class _Drop:
  tickets: Sequence[int]


@dataclasses.dataclass
class _UnderWay:
  """A request in the session: its number there, whether news are told as they come, how many tokens were."""

  number: int
  grows: bool
  told: int = 0


class Worker:
  """Decodes what is submitted.

  Args:
    session: handed over: nothing else touches it from now on.
    slots: requests that it decodes side by side.
    places: answers that may be under way or wait.
    on_failure: called on the event loop if the engine fails; `failure` says how.
  """

  def __init__(self, session: Session, *, slots: int, places: int, metrics: Metrics):
    self._session, self._slots, self._places, self._metrics = session, slots, places, metrics
    self._mesh = sharding.mesh()  # which JAX keeps a thread
    self._loop = asyncio.get_running_loop()
    self._inbox: queue.SimpleQueue[_Add | _Drop | None] = queue.SimpleQueue()
    self._under_way: dict[int, _UnderWay] = {}  # by ticket, the thread's own
    self._jobs: dict[int, Job] = {}  # by ticket, the event loop's own
    self._count = 0
    self._last_end, self._seconds = 0.0, 0.0  # an end of an answer, and the mean time between two
    self.failure: BaseException | None = None
    metrics.slots.set(slots)
    self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
    self._thread.start()

  def submit(self, requests: Sequence[Request], *, grows: bool) -> Job:
    """Hands requests over, all or none; `grows`, news of them are told as they come.

    Raises:
      Refusal: 400, where one is longer than the session's lengths; 429, where there is no place for all of them; 503,
        where the engine has failed.
    """
    if self.failure:
      raise Refusal("the engine has failed", status=503)
    if too_long := next(filter(None, map(self._session.lengths.exceeded_by, requests)), ""):
      raise Refusal(f"too long: {too_long}", code="context_length_exceeded")
    over = len(self._jobs) + len(requests) - self._places
    if over > 0:
      self._metrics.refused.inc()
      seconds = min(LONGEST_RETRY, max(1, math.ceil(over * self._seconds)))
      message = f"{len(self._jobs)} answers are under way or wait: try again in {seconds} s"
      raise Refusal(message, status=429, code="queue_full", headers={"retry-after": str(seconds)})
    if not self._jobs:
      self._last_end = time.monotonic()
    tickets = range(self._count, self._count + len(requests))
    self._count += len(requests)
    job = Job(tickets, self._drop)
    for ticket, request in zip(tickets, requests, strict=True):
      self._jobs[ticket] = job
      self._inbox.put(_Add(ticket, request, grows))
    self._metrics.prompt_tokens.inc(sum(len(request.tokens) for request in requests))
    return job

  def refuse_all(self, refusal: Refusal) -> None:
    """Whoever still waits gets this instead."""
    for job in set(self._jobs.values()):
      job.fail(refusal)

  def stop(self) -> None:
    """Ends the thread after its present call."""
    self._inbox.put(None)
    self._thread.join()

  def __len__(self) -> int:
    """Answers under way or waiting."""
    return len(self._jobs)

  def _drop(self, tickets: Sequence[int]) -> None:
    for ticket in tickets:
      self._jobs.pop(ticket, None)
    self._metrics.left.inc()
    self._inbox.put(_Drop(tickets))

  def _deliver(self, told: Sequence[tuple[int, News]]) -> None:
    """On the event loop: hands news on to those who wait for them."""
    now, ended = time.monotonic(), 0
    for ticket, news in told:
      job = self._jobs.get(ticket)
      if job is None:  # dropped in the meantime
        continue
      self._metrics.new_tokens.inc(len(news.tokens))
      if job.put(ticket, news):
        self._metrics.first.observe(now - job.began)
      if news.end:
        del self._jobs[ticket]
        ended += 1
    if ended:
      between = (now - self._last_end) / ended
      self._seconds = 0.8 * self._seconds + 0.2 * between if self._seconds else between
      self._last_end = now

  def _failed(self) -> None:
    self.refuse_all(Refusal("the engine has failed", status=500))

  def _run(self) -> None:
    try:
      with sharding.over(self._mesh):
        self._work()
    except BaseException as e:  # told to all who wait, and raised again by the main thread
      self.failure = e
      self._loop.call_soon_threadsafe(self._failed)

  def _work(self) -> None:
    while (commands := self._commands()) is not None:
      for command in commands:
        self._obey(command)
      if len(self._session):
        self._advance()
      self._show()

  def _commands(self) -> list[_Add | _Drop] | None:
    """What has come in; waits where nothing is under way. None: it is time to stop."""
    found = [] if len(self._session) else [self._inbox.get()]
    while not self._inbox.empty():
      found.append(self._inbox.get())
    return None if None in found else [command for command in found if command is not None]

  def _obey(self, command: _Add | _Drop) -> None:
    if isinstance(command, _Add):
      self._under_way[command.ticket] = _UnderWay(self._session.add(command.request), command.grows)
      return
    for ticket in command.tickets:
      under_way = self._under_way.pop(ticket, None)
      if under_way:  # else it ended while the command was on its way
        self._session.drop(under_way.number)

  def _advance(self) -> None:
    waiting = len(self._session) > self._slots
    ended = dict(self._session.advance())
    if waiting:
      self._metrics.calls.observe(self._slots - self._session.free + len(ended))
    told = []
    for ticket, under_way in list(self._under_way.items()):
      end = ended.get(under_way.number)
      if end is not None:
        told.append((ticket, _news(end, under_way.told, end)))
        del self._under_way[ticket]
      elif under_way.grows:
        news = _news(self._session.answer(under_way.number), under_way.told)
        if news.tokens:
          told.append((ticket, news))
          under_way.told += len(news.tokens)
    if told:
      self._loop.call_soon_threadsafe(self._deliver, told)

  def _show(self) -> None:
    busy = self._slots - self._session.free
    self._metrics.busy.set(busy)
    self._metrics.waiting.set(len(self._session) - busy)


def _news(answer: Completion, told: int, end: Completion | None = None) -> News:
  """Copies: the session goes on writing into an answer that has not ended."""
  return News(
    tokens=answer.tokens[told:], logprobs=answer.logprobs[told:], alternatives=answer.alternatives[told:], end=end
  )
