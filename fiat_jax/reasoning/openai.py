"""Any endpoint of OpenAI's protocol, over the package `openai`, whose own retries are off: ours keep the desk in step.

Retried are 408, 429, 5xx and time-outs alone, with jittered exponential back-off that honours `Retry-After`. What came
with status 200 is never asked for again: a body that is broken or cut is a failure, and counts as paid. The key is read
from OPENAI_API_KEY and goes nowhere but into the client. With --batch_api all goes through `batch_api.py`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import random
import time
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Any

import openai

from fiat_jax import signals
from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.reasoning import batch_api
from fiat_jax.reasoning.api_key import KEY, brief, key_of
from fiat_jax.reasoning.desk import Dealt, Desk, Failure
from fiat_jax.reasoning.dialect import (
  Dialect,
  begins,
  begun_with,
  is_chat,
  never_left,
  note_begin,
  passes,
  read,
  told,
  wait_of,
)
from fiat_jax.reasoning.estimate import likely_tokens
from fiat_jax.reasoning.pace import Pace
from fiat_jax.reasoning.reasoner import is_local
from fiat_jax.reasoning.request import Answer, Claim, Request
from fiat_jax.settings import Settings

OWN_ADDRESS = "https://api.openai.com/v1"
ATTEMPTS = 7
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
HOPELESS = 5  # so many requests given up with no answer before or between: the endpoint is not asked on
REFUSALS = 64  # so many refused, as single rows may be, and none answered: no row will be
UNUSABLE = 32  # so many answered, and none so that it can be used: all are paid for
POLL_SECONDS = 0.2
SLACK_SECONDS = 1.0  # httpx's own limits, of single steps, come first: they tell whether anything has left
LOOK_SECONDS = 5.0  # for the list of models, which need not be there
CONTEXTS = ("max_model_len", "context_length", "context_window")  # as vLLM and others tell it beside a model's name

Came = tuple[Claim, Answer] | Failure | None  # what a request came to; None: it is asked later
ANSWERED = -1  # in place of a count of refusals, or of answers that cannot be used


class Late(TimeoutError):
  """No whole answer came in time. `begun`: one had begun, so that it is paid for."""

  def __init__(self, begun: Sequence[int]):
    super().__init__()
    self.begun = bool(begun) and begun[-1] < 300


class EndpointReasoner:
  """A `Reasoner` over HTTP."""

  remote = True

  def __init__(self, settings: Settings):
    self.name = settings.beta.partition(":")[2]
    self.endpoint = (settings.beta_url or OWN_ADDRESS).rstrip("/")
    parts = urllib.parse.urlsplit(self.endpoint)
    if parts.scheme not in ("http", "https") or parts.username or parts.query:
      raise UserError(f"--beta_url: give http(s)://HOST/PATH and nothing else; a key is read from {KEY} alone")
    self._local = is_local(self.endpoint)
    self._settings, self._dialect = settings, Dialect(self.name, self.endpoint)
    self._pace = Pace(settings.requests_per_minute, settings.tokens_per_minute)
    self._context = settings.beta_context or None
    self._hopeless = self._refused = self._unusable = 0
    self._stop: BaseException | None = None

  @property
  def context(self) -> int | None:
    """As the user says, or as the endpoint does where its list of models tells; no row's text leaves for that."""
    if self._context is None and self.endpoint != OWN_ADDRESS:
      self._context = self._listed_context()
    if not self._context:
      _say_unknown(self.name, self.endpoint)
    return self._context or None

  def _listed_context(self) -> int:
    """0 where it is not told."""
    try:
      key = key_of(self._local)
      with openai.OpenAI(api_key=key, base_url=self.endpoint, max_retries=0, timeout=LOOK_SECONDS) as client:
        listed = [model.model_dump() for model in client.models.list().data if model.id == self.name]
    except (openai.OpenAIError, UserError, ValueError, AttributeError, TypeError):
      return 0
    return next((model[name] for model in listed for name in CONTEXTS if isinstance(model.get(name), int)), 0)

  def count(self, prompts: Sequence[str]) -> list[int]:
    return [likely_tokens(prompt) for prompt in prompts]

  def run(self, desk: Desk, requests: Sequence[Request]) -> None:
    key = key_of(self._local)
    if self._settings.batch_api:
      batch_api.run(desk, self._dialect, key, self._settings.timeout)
      return
    asyncio.run(self._run(desk, key))
    if self._stop:
      raise self._stop

  async def _run(self, desk: Desk, key: str) -> None:
    async with self._client(key) as client:
      tasks: set[asyncio.Task[Came]] = set()
      learnt = False  # the first request goes alone: what it teaches (another parameter's name, the price) serves all
      while len(desk) and not self._stop:
        room = (self._settings.concurrency if learnt else 1) - len(tasks)
        try:
          signals.check()
          claims = desk.take(room) if room > 0 else []
        except Exception as e:  # what is under way is still taken in
          self._stop = e
          break
        tasks |= {asyncio.create_task(self._guarded(client, desk, claim)) for claim in claims}
        if not tasks and (desk.capped or desk.in_batches):
          return
        if tasks:
          done, tasks = await asyncio.wait(tasks, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
          learnt |= bool(done)
          self._take_in(desk, done)
        else:
          await asyncio.sleep(POLL_SECONDS)  # another process is at what is left
      await self._end(desk, tasks)

  async def _end(self, desk: Desk, tasks: set[asyncio.Task[Came]]) -> None:
    """Takes in what is under way when all is to stop, for it is paid for, each answer as it comes."""
    until = time.monotonic() + self._settings.timeout
    if tasks:
      say(f"{len(tasks)} answers are under way, and waited for, {self._settings.timeout:g} s at the most")
    while tasks and (left := until - time.monotonic()) > 0:
      done, tasks = await asyncio.wait(tasks, timeout=left, return_when=asyncio.FIRST_COMPLETED)
      self._take_in(desk, done)
    for task in tasks:
      task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

  def _take_in(self, desk: Desk, done: Iterable[asyncio.Task[Came]]) -> None:
    """What requests came to is kept, all at once: each time the disk is waited for."""
    came = [result for task in done if (result := task.result())]
    failures = [result for result in came if isinstance(result, Failure)]
    answers = [result for result in came if not isinstance(result, Failure)]
    refused = [f.reason for f in failures if f.refused]
    useless = [f.reason for f in failures if not f.refused] + [a.broken for _, a in answers if a.broken]
    try:
      desk.close(answers, failures)
    except Exception as e:
      self._stop = self._stop or e
    nothing = len(useless) + len(refused) == len(came)
    self._hopeless = len(useless) + (self._hopeless if nothing else 0)
    self._refused = len(refused) + self._refused if nothing and self._refused >= 0 else ANSWERED
    if self._hopeless >= HOPELESS and useless:
      self._stop = self._stop or UserError(
        f"{self.endpoint}: {HOPELESS} requests one after another came to nothing; the last: {useless[-1]}"
      )
    if refused and self._refused >= REFUSALS:
      self._stop = self._stop or UserError(f"{self.endpoint}: none of {REFUSALS} requests was taken; {refused[-1]}")
    self._weigh([answer.fault for _, answer in answers])

  def _weigh(self, faults: Sequence[str]) -> None:
    """Stops where no answer can be used, of these and of all before."""
    usable = self._unusable == ANSWERED or not all(faults)
    self._unusable = ANSWERED if usable else self._unusable + len(faults)
    if self._unusable >= UNUSABLE and faults:
      self._stop = self._stop or UserError(
        f"{self.endpoint}: none of {self._unusable} answers can be used, and all are paid for; the last: {faults[-1]}; "
        "`fiat annotate --limit 5` shows some"
      )

  async def _guarded(self, client: openai.AsyncOpenAI, desk: Desk, claim: Dealt) -> Came:
    try:
      return await self._ask(client, desk, claim)
    except Exception as e:  # told once all others are through
      self._stop = self._stop or e
      return None

  async def _ask(self, client: openai.AsyncOpenAI, desk: Desk, claim: Dealt) -> Came:
    """One request, until it is answered or given up, or is to be asked later."""
    for attempt in range(1, ATTEMPTS + 1):
      await self._pace.wait(claim.request, lambda: bool(self._stop))
      if self._stop:
        desk.unsent([claim])
        return None
      body = self._dialect.body(claim.request)
      try:
        answer = await self._send(client, body, chat=is_chat(claim.request))
      except openai.APIStatusError as e:
        if self._dialect.blames(e.status_code, str(e)) and (
          self._dialect.learns(e.status_code, str(e)) or not self._dialect.knows(body)
        ):
          continue
        if e.status_code in (401, 403, 404):
          desk.unsent([claim])
          self._dialect.require_welcome(e.status_code)
        if not passes(e.status_code):
          return Failure(claim, f"refused: {told(e.status_code, e.message)}", charged=False, refused=True)
        reason, charged, wait = told(e.status_code, e.message), False, wait_of(e)
      except openai.APIConnectionError as e:
        late = isinstance(e, openai.APITimeoutError)
        begun = begun_with(e)
        if begun and begun < 300:
          middle = f"nothing more came for {self._settings.timeout:g} s" if late else "the connection broke"
          return claim, _unreadable(f"{middle} in the middle of the answer")
        reason = (
          f"no answer within {self._settings.timeout:g} s" if late else f"no connection: {brief(e.__cause__ or e)}"
        )
        charged, wait = not (begun or never_left(e)), 0.0
      except Late as e:
        if e.begun:
          return claim, _unreadable(f"after {self._settings.timeout:g} s the answer was still on its way")
        reason, charged, wait = f"no answer within {self._settings.timeout:g} s", True, 0.0
      except (openai.APIError, ValueError) as e:  # a body that is no JSON, or another object than was asked for
        return claim, _unreadable(f"a broken answer: {brief(e)}")
      else:
        return claim, answer
      if attempt == ATTEMPTS:
        return Failure(claim, f"{ATTEMPTS} attempts: {reason}", charged=charged)
      if charged:
        renewed = desk.renewed(claim)
        if renewed is None:
          return None
        claim = renewed
      back_off = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
      await self._pause(max(wait, back_off))
    return Failure(claim, "the endpoint refuses every form of the request", charged=False, refused=True)

  async def _pause(self, seconds: float) -> None:
    """Waits, but no longer than until all is to stop."""
    until = time.monotonic() + seconds
    while not self._stop and (left := until - time.monotonic()) > 0:
      await asyncio.sleep(min(POLL_SECONDS, left))

  def client(self) -> openai.AsyncOpenAI:
    """A client for `once`. Raises UserError where there is no key."""
    return self._client(key_of(self._local))

  def _client(self, key: str) -> openai.AsyncOpenAI:
    http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [note_begin]})
    return openai.AsyncOpenAI(
      api_key=key, base_url=self.endpoint, max_retries=0, timeout=self._settings.timeout, http_client=http
    )

  async def once(self, client: openai.AsyncOpenAI, request: Request) -> Answer:
    """The answer to one request, which is not repeated but for parameters that the endpoint does not take.

    Raises:
      openai.OpenAIError: there is none.
      ValueError: what came is none.
    """
    while True:
      try:
        return await self._send(client, self._dialect.body(request), chat=is_chat(request))
      except openai.APIStatusError as e:
        if not self._dialect.learns(e.status_code, str(e)):
          raise

  async def _send(self, client: openai.AsyncOpenAI, body: dict[str, Any], *, chat: bool) -> Answer:
    """Raises Late where an answer is not whole in time, though some of it may come all the while."""
    started, begun = time.monotonic(), begins()
    try:
      async with asyncio.timeout(self._settings.timeout + SLACK_SECONDS):
        made: Any = await (client.chat.completions if chat else client.completions).create(**body)
    except TimeoutError:
      raise Late(begun) from None
    if not hasattr(made, "model_dump"):
      raise ValueError(f"no object but {brief(made, 100)!r}")
    answer = read(made.model_dump(warnings=False), chat=chat)
    return dataclasses.replace(answer, seconds=round(time.monotonic() - started, 4))


@functools.cache  # once a command, however many recipes ask
def _say_unknown(name: str, endpoint: str) -> None:
  say(f"how many tokens {name} takes is not told by {endpoint}: no prompt's length is checked; --beta_context says it")


def _unreadable(reason: str) -> Answer:
  """Something came, and is paid for."""
  return Answer(text="", finish="broken", tokens=None, broken=reason)
