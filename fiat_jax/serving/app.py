"""The routes, and what happens to one HTTP request between its body and its answer."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.decoding import request as engine
from fiat_jax.serving import encoding, fields, protocol
from fiat_jax.serving.answers import Answers
from fiat_jax.serving.growing import Growing, Part
from fiat_jax.serving.guard import Guard, send_refusal
from fiat_jax.serving.job import ClientGone, Job, gone
from fiat_jax.serving.limits import Limits, read_body
from fiat_jax.serving.metrics import CONTENT_TYPE, Metrics
from fiat_jax.serving.protocol import Ask
from fiat_jax.serving.refusal import Refusal
from fiat_jax.serving.spelling import Spelling
from fiat_jax.serving.worker import Worker

EVENTS = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", "x-accel-buffering": "no"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Served:
  """What is served: a model under its names, of which the first is the one that is listed."""

  names: Sequence[str]
  tokenizer: Tokenizer
  limits: Limits


Handler = Callable[[Request], Awaitable[Response]]


def application(
  served: Served, worker: Worker | None, metrics: Metrics, *, token: str, predict: Handler | None = None
) -> ASGIApp:
  """The whole server as an ASGI application; `predict` answers rows, where a deployment is served.

  Without a worker the model is elsewhere, and is asked there.
  """
  routes = Routes(served, worker, metrics)
  app = Starlette(
    routes=[
      *([Route("/v1/predict", predict, methods=["POST"])] if predict else []),
      Route("/v1/completions", routes.completions, methods=["POST"]),
      Route("/v1/chat/completions", routes.chat, methods=["POST"]),
      Route("/v1/models", routes.models),
      Route("/v1/models/{name:path}", routes.model),
      Route("/health", routes.health),
      Route("/metrics", routes.metrics),
    ],
    exception_handlers={Refusal: _refused, HTTPException: _http_error, ClientDisconnect: _gone, ClientGone: _gone},
  )
  return Guard(app, token=token, metrics=metrics)


class Routes:
  """One method a route."""

  def __init__(self, served: Served, worker: Worker | None, metrics: Metrics):
    self._served, self._worker, self._metrics = served, worker, metrics
    self._spelling = Spelling(served.tokenizer)
    self._began = int(time.time())

  async def completions(self, request: Request) -> Any:
    return await self._answer(request, protocol.parse_completion)

  async def chat(self, request: Request) -> Any:
    return await self._answer(request, protocol.parse_chat)

  async def models(self, request: Request) -> Response:
    return JSONResponse({"object": "list", "data": [self._card()]})

  async def model(self, request: Request) -> Response:
    self._check_name(request.path_params["name"])
    return JSONResponse(self._card())

  async def health(self, request: Request) -> Response:
    broken = self._worker is not None and self._worker.failure is not None
    return JSONResponse({"status": "failed" if broken else "ok"}, 503 if broken else 200)

  async def metrics(self, request: Request) -> Response:
    return Response(self._metrics.text(), media_type=CONTENT_TYPE)

  async def _answer(self, request: Request, parse: Callable[[Mapping[str, Any]], Ask]) -> Any:
    ask = parse(fields.parse_object(await read_body(request)))
    self._check_name(ask.model)
    if self._worker is None:
      raise Refusal("the model is served elsewhere: this server answers /v1/predict", status=404)
    requests = await self._encoded(ask)
    job = self._worker.submit(requests, grows=ask.stream)
    answers = Answers(ask, requests, self._spelling)
    growing = [Growing(self._spelling, ask.stops, detailed=ask.alternatives is not None) for _ in requests]
    if ask.stream:
      return Events(job, answers, growing)
    with job:
      async with leaving(request.receive, job):
        parts: dict[int, Part] = {}
        async for index, news in job.news():
          parts[index] = growing[index].add(news)
      body = answers.whole([parts[index] for index in sorted(parts)], job.new_tokens)
      return Response(body, media_type="application/json")

  async def _encoded(self, ask: Ask) -> list[engine.Request]:
    served = self._served
    if encoding.size(ask) < encoding.LONG:
      return encoding.requests_of(ask, served.tokenizer, served.limits)
    return await asyncio.to_thread(encoding.requests_of, ask, served.tokenizer, served.limits)

  def _check_name(self, name: str) -> None:
    if name not in self._served.names:
      message = f"there is no model {name[:100]!r} here: this server has {self._served.names[0]!r}"
      raise Refusal(message, param="model", code="model_not_found", status=404)

  def _card(self) -> dict[str, Any]:
    limits = {"max_prompt_tokens": self._served.limits.prompt, "max_new_tokens": self._served.limits.answer}
    card = {"id": self._served.names[0], "object": "model", "created": self._began, "owned_by": "fiat_jax"}
    return card | limits | {"max_model_len": self._served.limits.whole}


class Events:
  """A response of server-sent events: the answers as they grow."""

  def __init__(self, job: Job, answers: Answers, growing: Sequence[Growing]):
    self._job, self._answers, self._growing = job, answers, growing

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(name.encode(), value.encode()) for name, value in EVENTS.items()]
    with self._job, contextlib.suppress(ClientGone):
      async with leaving(receive, self._job):
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        try:
          async for event in self._events():
            await send({"type": "http.response.body", "body": event, "more_body": True})
        except Refusal as e:  # the status has gone out: what is left is an event
          await send({"type": "http.response.body", "body": b"data: " + e.json() + b"\n\n", "more_body": True})
      await send({"type": "http.response.body", "body": b""})

  async def _events(self) -> AsyncIterator[bytes]:
    begin = b"".join(self._answers.first(index) for index in range(len(self._growing)))
    if begin:
      yield begin
    async for index, news in self._job.news():
      event = self._answers.chunk(index, self._growing[index].add(news))
      if event:
        yield event
    yield self._answers.last(self._job.new_tokens)


@contextlib.asynccontextmanager
async def leaving(receive: Receive, job: Job) -> AsyncIterator[None]:
  """While this lasts, a client that goes away ends the waiting for its job."""

  async def watch() -> None:
    await gone(receive)
    job.fail(ClientGone())

  watching = asyncio.create_task(watch())
  try:
    yield
  finally:
    watching.cancel()


class _Refused(Response):
  """A refusal as a response."""

  def __init__(self, refusal: Refusal):
    super().__init__(status_code=refusal.status)
    self._refusal = refusal

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    await send_refusal(self._refusal, send)


async def _refused(request: Request, error: Exception) -> Response:
  assert isinstance(error, Refusal)
  return _Refused(error)


async def _http_error(request: Request, error: Exception) -> Response:
  """Unknown paths and methods."""
  assert isinstance(error, HTTPException)
  message = f"{request.method} {request.url.path[:200]}: {error.detail.lower()}"
  return _Refused(Refusal(message, status=error.status_code, headers=error.headers))


async def _gone(request: Request, error: Exception) -> Response:
  """Nobody reads it; uvicorn passes over what is sent to a client that has left."""
  return Response(status_code=499)
