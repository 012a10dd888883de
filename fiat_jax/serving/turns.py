"""Whose turn it is at an endpoint: so many questions at a time and a minute, and so many that wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fiat_jax.reasoning.pace import Pace
from fiat_jax.reasoning.request import Request
from fiat_jax.settings import Settings


class Unanswered(Exception):
  """Why there is no reasoning; `status` is what HTTP calls that.

  `charged`: it may have been paid for; `cost`: it was, so much; `wait`: seconds after which asking again may help.
  """

  def __init__(self, reason: str, status: int = 502, *, charged: bool = False, cost: float = 0.0, wait: float = 0.0):
    super().__init__(reason)
    self.status, self.charged, self.cost, self.wait = status, charged, cost, wait


class Turns:
  """CONCURRENCY questions at a time, REQUESTS_PER_MINUTE and TOKENS_PER_MINUTE; of more, so many `waiting` ones."""

  def __init__(self, settings: Settings, waiting: int):
    self._pace = Pace(settings.requests_per_minute, settings.tokens_per_minute)
    self._free, self._count, self._most = asyncio.Semaphore(settings.concurrency), 0, waiting

  @contextlib.asynccontextmanager
  async def of(self, request: Request) -> AsyncIterator[None]:
    """Waits until the request may be sent. Raises Unanswered, 429, where too many wait already."""
    if self._free.locked() and self._count >= self._most:
      raise Unanswered(f"{self._count} questions wait for the big model already", 429, wait=1.0)
    self._count += 1
    try:
      await self._free.acquire()
    finally:
      self._count -= 1
    try:
      await self._pace.wait(request, lambda: False)
      yield
    finally:
      self._free.release()
