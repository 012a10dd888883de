"""Who may ask: a bearer token where there is one, and on a loopback address without one nobody whom a browser sends."""

from __future__ import annotations

import hmac
import ipaddress
import os
import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fiat_jax.errors import UserError
from fiat_jax.serving.metrics import Metrics
from fiat_jax.serving.refusal import Refusal

TOKEN = "FIAT_SERVE_TOKEN"
OPEN_PATHS = ("/health",)
PATHS = ("/v1/predict", "/v1/completions", "/v1/chat/completions", "/v1/models", "/health", "/metrics")


def token_for(host: str) -> str:
  """The token that clients must show, from the environment; empty: none, which is allowed on a loopback address alone.

  Raises:
    UserError: the address can be reached from elsewhere and there is no token, or the token is no header's.
  """
  token = os.environ.get(TOKEN, "").strip()
  if not token and not is_loopback(host):
    raise UserError(
      f"--host {host} can be reached from other machines: set the environment variable {TOKEN} to a secret that "
      "clients send as their API key"
    )
  if not (token.isascii() and token.isprintable()):
    raise UserError(f"{TOKEN} holds characters that no HTTP header can: give letters, digits and signs of ASCII")
  return token


def is_loopback(host: str) -> bool:
  """Whether only this machine can reach an address."""
  try:
    return ipaddress.ip_address(host.strip("[]")).is_loopback
  except ValueError:
    return host.lower() == "localhost"


class Guard:
  """An application behind the token, every request counted."""

  def __init__(self, app: ASGIApp, *, token: str, metrics: Metrics):
    self._app, self._token, self._metrics = app, token.encode(), metrics

  async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
      await self._app(scope, receive, send)
      return
    began, status = time.monotonic(), 499  # as nginx calls it when the client leaves before an answer

    async def noted(message: Message) -> None:
      nonlocal status
      if message["type"] == "http.response.start":
        status = message["status"]
      await send(message)

    path = scope["path"] if scope["path"] in PATHS else "other"
    try:
      refusal = self._refusal(scope)
      if refusal:
        await send_refusal(refusal, noted)
      else:
        await self._app(scope, receive, noted)
    finally:
      self._metrics.requests.labels(path, str(status)).inc()
      self._metrics.seconds.labels(path).observe(time.monotonic() - began)

  def _refusal(self, scope: Scope) -> Refusal | None:
    if scope["path"] in OPEN_PATHS:
      return None
    headers = dict(scope["headers"])
    if not self._token:  # a web page whose name was made to point here would still be called by its name
      host = headers.get(b"host", b"").decode("latin-1")
      name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
      if is_loopback(name):
        return None
      return Refusal(f"this server answers to localhost alone: set {TOKEN} to serve other names", status=403)
    kind, _, shown = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer" and hmac.compare_digest(shown.strip(), self._token):
      return None
    return Refusal(
      "the API key is missing or wrong",
      status=401,
      code="invalid_api_key",
      headers={"www-authenticate": "Bearer"},
    )


async def send_refusal(refusal: Refusal, send: Send) -> None:
  """Answers with a refusal."""
  body = refusal.json()
  headers = {"content-type": "application/json", "content-length": str(len(body))} | refusal.headers
  raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
  await send({"type": "http.response.start", "status": refusal.status, "headers": raw})
  await send({"type": "http.response.body", "body": body})
