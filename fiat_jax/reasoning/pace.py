"""Limits of requests and tokens a minute, kept by the endpoint's clock."""

from __future__ import annotations

import asyncio
import collections
import time
from collections.abc import Callable

from fiat_jax.reasoning.estimate import likely_tokens
from fiat_jax.reasoning.request import Request

MINUTE = 60.0
SLACK = 1.0  # a request may be so much longer on its way than the next one: by the endpoint's clock they are closer
POLL_SECONDS = 0.2


class Pace:
  """Lets so many requests and tokens go in any minute; 0: any number. A prompt's tokens are estimated."""

  def __init__(self, requests: int, tokens: int):
    self._requests, self._tokens = requests, tokens
    self._sent: collections.deque[tuple[float, int]] = collections.deque()

  async def wait(self, request: Request, stopped: Callable[[], bool]) -> None:
    """Until one more may go, or all is to stop."""
    tokens = likely_tokens(request.prompt) + request.asking.length
    while self._requests or self._tokens:
      now = time.monotonic()
      while self._sent and self._sent[0][0] < now - MINUTE - SLACK:
        self._sent.popleft()
      used = sum(count for _, count in self._sent)
      full = (self._requests and len(self._sent) >= self._requests) or (
        self._tokens and self._sent and used + tokens > self._tokens
      )
      if not full or stopped():
        self._sent.append((now, tokens))
        return
      await asyncio.sleep(min(POLL_SECONDS, MINUTE / 50))
