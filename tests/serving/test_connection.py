"""Connections that do not speak are closed, and more than the process can hold are not taken."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn

from fiat_jax.serving import connection
from fiat_jax.serving.connection import Connection

REQUEST = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def app(scope, receive, send) -> None:
  await asyncio.sleep(0.6)  # longer than a head may take
  await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
  await send({"type": "http.response.body", "body": b"ok"})


@contextlib.asynccontextmanager
async def port() -> AsyncIterator[int]:
  bound = socket.create_server(("127.0.0.1", 0))
  server = uvicorn.Server(uvicorn.Config(app, http=Connection, loop="asyncio", lifespan="off", log_config=None))
  serving = asyncio.create_task(server.serve(sockets=[bound]))
  while not server.started:
    await asyncio.sleep(0.01)
  try:
    yield bound.getsockname()[1]
  finally:
    server.should_exit = True
    await serving


async def closed(reader: asyncio.StreamReader, seconds: float) -> bool:
  """Whether the other side ends the connection within so many seconds, with nothing said."""
  try:
    return await asyncio.wait_for(reader.read(), seconds) == b""
  except TimeoutError:
    return False
  except ConnectionResetError:
    return True


@pytest.mark.parametrize(
  ("first", "said"), [(False, b""), (False, REQUEST[:10]), (True, REQUEST[:10])], ids=["nothing", "a part", "later"]
)
def test_a_head_that_does_not_come_ends_the_connection(monkeypatch, first, said):
  monkeypatch.setattr(connection, "HEADER_SECONDS", 0.3)

  async def run() -> None:
    async with port() as number:
      reader, writer = await asyncio.open_connection("127.0.0.1", number)
      if first:
        writer.write(REQUEST)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200"), "an answer may take its time"
      writer.write(said)
      assert await closed(reader, 3.0)
      writer.close()

  asyncio.run(run())


def test_a_connection_is_kept_between_requests(monkeypatch):
  monkeypatch.setattr(connection, "HEADER_SECONDS", 0.3)

  async def run() -> None:
    async with port() as number:
      reader, writer = await asyncio.open_connection("127.0.0.1", number)
      for _ in range(2):
        writer.write(REQUEST)
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        await asyncio.sleep(0.6)
      writer.close()

  asyncio.run(run())


def test_connections_beyond_what_the_process_can_hold_are_closed_at_once(monkeypatch):
  monkeypatch.setattr(connection, "most", lambda: 2)

  async def run() -> None:
    async with port() as number:
      kept = [await asyncio.open_connection("127.0.0.1", number) for _ in range(2)]
      reader, writer = await asyncio.open_connection("127.0.0.1", number)
      assert await closed(reader, 3.0)
      kept[0][1].write(REQUEST)
      assert (await kept[0][0].readuntil(b"ok")).startswith(b"HTTP/1.1 200")
      for _, one in (*kept, (reader, writer)):
        one.close()

  asyncio.run(run())
