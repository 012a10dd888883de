"""The socket, and uvicorn on it: from the first connection to the last answer after a signal."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from fiat_jax import signals
from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.serving.connection import Connection
from fiat_jax.serving.refusal import Refusal
from fiat_jax.serving.worker import Worker
from fiat_jax.serving.workers import Workers

BACKLOG = 1024
KEEP_ALIVE_SECONDS = 30
LAST_WORDS_SECONDS = 3  # for refusals to those who waited in vain


def bind(host: str, port: int) -> socket.socket:
  """A socket that has the address and does not listen yet.

  Raises:
    UserError: the address is taken, not this machine's, or no address.
  """
  try:
    family, kind, protocol, _, address = socket.getaddrinfo(
      host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    found = socket.socket(family, kind, protocol)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind(address)
  except (OSError, OverflowError) as e:
    reason = getattr(e, "strerror", None) or str(e)
    raise UserError(
      f"--host {host} --port {port} cannot be had ({reason}): give another, or --port 0 for any"
    ) from None
  return found


def address(bound: socket.socket) -> str:
  """`http://HOST:PORT`."""
  host, port = bound.getsockname()[:2]
  return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
  """Ends on a signal, as `fiat_jax.signals` notes it, or when the engine fails."""

  def __init__(self, config: uvicorn.Config, worker: Worker | Workers, drain: float, on_listening: Callable[[], None]):
    super().__init__(config)
    self._worker, self._drain, self._on_listening = worker, drain, on_listening
    self.stopped: signals.Stopped | None = None

  @contextlib.contextmanager
  def capture_signals(self) -> Iterator[None]:
    yield  # the command has its own handlers

  async def startup(self, sockets: list[socket.socket] | None = None) -> None:
    await super().startup(sockets)
    self._on_listening()

  async def on_tick(self, counter: int) -> bool:
    try:
      signals.check()
    except signals.Stopped as e:
      self.stopped = e
      if len(self._worker):
        say(f"{e}: {len(self._worker)} answers under way get up to {self._drain:g} s")
      over = Refusal("the server is stopping", status=503)
      asyncio.get_running_loop().call_later(self._drain, self._worker.refuse_all, over)
      return True
    return self._worker.failure is not None or await super().on_tick(counter)


async def serve(
  app: ASGIApp, bound: socket.socket, worker: Worker | Workers, *, drain: float, on_listening: Callable[[], None]
) -> None:
  """Serves until a signal comes; then takes no more connections and ends what is under way.

  Args:
    drain: seconds that this may take.
    on_listening: called once connections are taken.

  Raises:
    Stopped: always but for a failure of the engine, which is raised as it was.
  """
  config = uvicorn.Config(
    app,
    http=Connection,
    loop="asyncio",
    ws="none",
    lifespan="off",
    log_config=None,
    access_log=False,
    server_header=False,
    backlog=BACKLOG,
    timeout_keep_alive=KEEP_ALIVE_SECONDS,
    timeout_graceful_shutdown=int(drain) + LAST_WORDS_SECONDS,
  )
  server = Server(config, worker, drain, on_listening)
  try:
    await server.serve(sockets=[bound])
  finally:
    worker.stop()
  if worker.failure:
    raise worker.failure
  if server.stopped:
    raise server.stopped
