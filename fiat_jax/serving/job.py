"""The answers to one HTTP request as they come from the engine's thread, read on the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.types import Receive

from fiat_jax.serving.growing import News


class ClientGone(Exception):
  """Nobody reads the answer any more."""


async def gone(receive: Receive) -> None:
  """Returns when the client has gone."""
  while (await receive())["type"] != "http.disconnect":
    pass


class Job:
  """One or more answers under way. Leaving the context drops those that have not ended.

  Args:
    tickets: the answers' numbers, in the order in which they were asked for.
    drop: called with the tickets of answers that nobody waits for any more.

  Attributes:
    began: when, by the monotonic clock.
    new_tokens: of the answers that have ended.
  """

  def __init__(self, tickets: Sequence[int], drop: Callable[[Sequence[int]], None]):
    self._index = {ticket: index for index, ticket in enumerate(tickets)}
    self._open, self._drop = set(tickets), drop
    self._queue: asyncio.Queue[tuple[int, News] | Exception] = asyncio.Queue()
    self._begun = False
    self.began = time.monotonic()
    self.new_tokens = 0

  def put(self, ticket: int, news: News) -> bool:
    """Adds news; true where they are the first."""
    first, self._begun = not self._begun, True
    if news.end:
      self._open.discard(ticket)
      self.new_tokens += len(news.end.tokens)
    self._queue.put_nowait((self._index[ticket], news))
    return first

  def fail(self, error: Exception) -> None:
    """The reader gets this instead of more news."""
    self._queue.put_nowait(error)

  async def news(self) -> AsyncIterator[tuple[int, News]]:
    """The number of an answer, counted from 0, and what has come of it, until all have ended."""
    left = len(self._index)
    while left:
      item = await self._queue.get()
      if isinstance(item, Exception):
        raise item
      left -= item[1].end is not None
      yield item

  def __enter__(self) -> Job:
    return self

  def __exit__(self, *_: object) -> None:
    if self._open:
      self._drop(list(self._open))
      self._open.clear()
