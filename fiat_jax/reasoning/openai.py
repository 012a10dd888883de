"""Any endpoint of OpenAI's protocol, over the package `openai`, whose own retries are off: ours keep the desk in step.

Retried are 408, 429, 5xx and time-outs alone, with jittered exponential back-off that honours `Retry-After`. What came
with status 200 is never asked for again: a body that is broken or cut is a failure, and counts as paid. The key is read
from OPENAI_API_KEY and goes nowhere but into the client.
"""

from __future__ import annotations

import asyncio
import collections
import os
import random
import time
import urllib.parse
from collections.abc import Sequence
from typing import Any

import openai

from fiat_jax import signals
from fiat_jax.errors import UserError
from fiat_jax.reasoning.desk import Claim, Desk
from fiat_jax.reasoning.estimate import likely_tokens
from fiat_jax.reasoning.request import Answer
from fiat_jax.settings import Settings

KEY = "OPENAI_API_KEY"
OWN_ADDRESS = "https://api.openai.com/v1"
ATTEMPTS = 7
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
HOPELESS = 5  # so many requests given up with no answer before or between: the endpoint is not asked on
POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0  # for what is under way when a signal comes: it is paid for


class EndpointReasoner:
  """A `Reasoner` over HTTP."""

  remote = True

  def __init__(self, settings: Settings):
    self.name = settings.beta.partition(":")[2]
    self.endpoint = (settings.beta_url or OWN_ADDRESS).rstrip("/")
    self.context = settings.beta_context or None
    parts = urllib.parse.urlsplit(self.endpoint)
    if parts.scheme not in ("http", "https") or parts.username or parts.query:
      raise UserError(f"--beta_url: give http(s)://HOST/PATH and nothing else; a key is read from {KEY} alone")
    self._local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    self._settings, self._dropped = settings, set[str]()
    self._hopeless = 0
    self._stop: BaseException | None = None
    self._sent: collections.deque[tuple[float, int]] = collections.deque()

  def count(self, prompts: Sequence[str]) -> list[int]:
    return [likely_tokens(prompt) for prompt in prompts]

  def run(self, desk: Desk, prompts: Sequence[str]) -> None:
    key = os.environ.get(KEY)
    if not key and not self._local:
      raise UserError(f"no key: set the environment variable {KEY}")
    asyncio.run(self._run(desk, key or "none"))
    if self._stop:
      raise self._stop

  async def _run(self, desk: Desk, key: str) -> None:
    async with openai.AsyncOpenAI(
      api_key=key, base_url=self.endpoint, max_retries=0, timeout=self._settings.timeout
    ) as client:
      tasks: set[asyncio.Task[None]] = set()
      learnt = False  # the first request goes alone: what it teaches (another parameter's name, the price) serves all
      while len(desk) and not self._stop:
        room = (self._settings.concurrency if learnt else 1) - len(tasks)
        claims = desk.take(room) if room > 0 else []
        tasks |= {asyncio.create_task(self._guarded(client, desk, claim)) for claim in claims}
        if not tasks and desk.capped:
          return
        if tasks:
          done, tasks = await asyncio.wait(tasks, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
          learnt |= bool(done)
        else:
          await asyncio.sleep(POLL_SECONDS)  # another process is at what is left
        try:
          signals.check()
        except signals.Stopped as e:
          self._stop = e
      if tasks:
        _, late = await asyncio.wait(tasks, timeout=GRACE_SECONDS)
        for task in late:
          task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

  async def _guarded(self, client: openai.AsyncOpenAI, desk: Desk, claim: Claim) -> None:
    try:
      await self._ask(client, desk, claim)
    except Exception as e:  # told once all others are through
      self._stop = self._stop or e

  async def _ask(self, client: openai.AsyncOpenAI, desk: Desk, claim: Claim) -> None:
    """One request, until it is answered or given up."""
    for attempt in range(1, ATTEMPTS + 1):
      await self._pace(claim)
      if self._stop:
        desk.unsent(claim)
        return
      try:
        answer = await self._send(client, claim)
      except openai.APIStatusError as e:
        if self._learns(e):
          continue
        self._refuse_fatal(desk, claim, e)
        if e.status_code not in (408, 429) and e.status_code < 500:
          self._give_up(desk, claim, f"refused: {_reason(e)}", charged=False)
          return
        reason, charged, wait = _reason(e), False, _retry_after(e)
      except openai.APITimeoutError:
        reason, charged, wait = f"no answer within {self._settings.timeout:g} s", True, 0.0
      except openai.APIConnectionError as e:
        if _was_answered(e):
          self._unreadable(desk, claim, "the connection broke in the middle of the answer")
          return
        reason, charged, wait = f"no connection: {e.__cause__ or e}", not _refused(e), 0.0
      except (openai.APIError, ValueError) as e:  # a body that is no JSON, or another object than was asked for
        self._unreadable(desk, claim, f"a broken answer: {str(e)[:200]}")
        return
      else:
        self._hopeless = 0
        desk.answered(claim, answer)
        return
      if attempt == ATTEMPTS:
        self._give_up(desk, claim, f"{ATTEMPTS} attempts: {reason}", charged=charged)
        return
      if charged:
        renewed = desk.renewed(claim)
        if renewed is None:
          return
        claim = renewed
      back_off = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)
      await asyncio.sleep(max(wait, back_off))
    self._give_up(desk, claim, "the endpoint refuses every form of the request", charged=False)

  async def _send(self, client: openai.AsyncOpenAI, claim: Claim) -> Answer:
    request = claim.request
    chat = request.asking.template == "chat"
    limit = "max_completion_tokens" if "max_tokens" in self._dropped and chat else "max_tokens"
    given: dict[str, Any] = {"model": self.name, limit: request.asking.length}
    if "temperature" not in self._dropped:
      given["temperature"] = request.asking.temperature
    if chat:
      made: Any = await client.chat.completions.create(messages=[{"role": "user", "content": request.prompt}], **given)
    else:
      made = await client.completions.create(prompt=request.prompt, **given)
    choices = getattr(made, "choices", None)
    if not choices:
      raise ValueError(f"no choices in {str(made)[:100]!r}")
    text = choices[0].message.content if chat else choices[0].text
    return Answer(text=text or "", finish=choices[0].finish_reason or "none", tokens=_charged(made.usage))

  async def _pace(self, claim: Claim) -> None:
    """Waits until both limits a minute allow one more request."""
    requests, limit = self._settings.requests_per_minute, self._settings.tokens_per_minute
    tokens = likely_tokens(claim.request.prompt) + claim.request.asking.length
    while requests or limit:
      now = time.monotonic()
      while self._sent and self._sent[0][0] < now - 60:
        self._sent.popleft()
      used = sum(count for _, count in self._sent)
      full = (requests and len(self._sent) >= requests) or (limit and self._sent and used + tokens > limit)
      if not full or self._stop:
        self._sent.append((now, tokens))
        return
      await asyncio.sleep(min(POLL_SECONDS, 60 - (now - self._sent[0][0])))

  def _learns(self, e: openai.APIStatusError) -> bool:
    """Whether the endpoint wants a parameter under another name, or not at all: asked again without, once."""
    if e.status_code != 400:
      return False
    text = str(e)
    for name in ("max_tokens", "temperature"):
      if name in text and name not in self._dropped and ("unsupported" in text.lower() or "not support" in text):
        self._dropped.add(name)
        return True
    return False

  def _refuse_fatal(self, desk: Desk, claim: Claim, e: openai.APIStatusError) -> None:
    if e.status_code in (401, 403, 404):
      desk.unsent(claim)
      hint = f"check --beta and --beta_url, and {KEY}" if e.status_code != 401 else f"check {KEY}"
      raise UserError(f"{self.endpoint} refuses ({e.status_code}): {hint}. What was answered before is kept") from None

  def _give_up(self, desk: Desk, claim: Claim, reason: str, *, charged: bool) -> None:
    desk.given_up(claim, reason, charged=charged)
    self._count_hopeless(reason)

  def _unreadable(self, desk: Desk, claim: Claim, reason: str) -> None:
    """Something came, and is paid for."""
    desk.answered(claim, Answer(text="", finish="broken", tokens=None, broken=reason))
    self._count_hopeless(reason)

  def _count_hopeless(self, reason: str) -> None:
    self._hopeless += 1
    if self._hopeless >= HOPELESS:
      raise UserError(f"{self.endpoint}: {HOPELESS} requests one after another came to nothing; the last: {reason}")


def _charged(usage: Any) -> tuple[int, int] | None:
  """Input and output tokens; thinking tokens stand in the output, or only in the total."""
  if usage is None or usage.prompt_tokens is None:
    return None
  total = (usage.total_tokens or 0) - usage.prompt_tokens
  return usage.prompt_tokens, max(usage.completion_tokens or 0, total)


def _retry_after(e: openai.APIStatusError) -> float:
  try:
    return min(600.0, max(0.0, float(e.response.headers.get("retry-after", 0))))
  except ValueError:
    return 0.0


def _reason(e: openai.APIStatusError) -> str:
  return f"status {e.status_code}: {' '.join(str(e.message).split())[:200]}"


def _refused(e: openai.APIConnectionError) -> bool:
  return type(e.__cause__).__name__ == "ConnectError"


def _was_answered(e: openai.APIConnectionError) -> bool:
  """Whether a status line had come: the connection broke in the body, not before it."""
  return type(e.__cause__).__name__ == "RemoteProtocolError" and "body" in str(e.__cause__)
