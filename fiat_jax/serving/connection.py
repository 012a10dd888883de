"""A client's connection, which is not kept open for one that does not speak."""

from __future__ import annotations

import asyncio
import resource
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 30.0  # for a request's whole head
SHARE = 0.75  # of the files that this process may open


def most() -> int:
  """How many connections may be open: some files are left for the rest."""
  return int(SHARE * resource.getrlimit(resource.RLIMIT_NOFILE)[0])


class Connection(H11Protocol):
  """uvicorn's, which ends where no head of a request comes in time, and at once where too many are open.

  uvicorn's own timer runs between requests alone; the time that a body may take is looked at elsewhere.
  """

  _ends: asyncio.TimerHandle | None = None

  def connection_made(self, transport: Any) -> None:
    super().connection_made(transport)
    if len(self.connections) > most():
      transport.abort()
      return
    self._watch()

  def data_received(self, data: bytes) -> None:
    super().data_received(data)
    self._watch()

  def connection_lost(self, exc: Exception | None) -> None:
    super().connection_lost(exc)
    if self._ends:
      self._ends.cancel()

  def _watch(self) -> None:
    """Lets the time run while a head is awaited, part of it or none."""
    waits = self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None
    if waits and self._ends is None:
      self._ends = self.loop.call_later(HEADER_SECONDS, self.transport.close)
    elif not waits and self._ends:
      self._ends.cancel()
      self._ends = None
