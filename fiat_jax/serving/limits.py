"""How much one client may ask for: the body's size, the tokens of prompt and answer, the places of a queue."""

from __future__ import annotations

import asyncio
import dataclasses

from starlette.requests import Request

from fiat_jax.decoding.engine import Lengths
from fiat_jax.serving.refusal import Refusal
from fiat_jax.settings import Settings

BODY_BYTES = 4 << 20
BODY_SECONDS = 30.0
PATIENCE = 8  # so many times the limit is read, and thrown away, before a body is cut off


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """Tokens of a prompt, of an answer and of both (None: no other limit); answers under way or waiting."""

  prompt: int
  answer: int
  whole: int
  answers: int

  @classmethod
  def of(cls, settings: Settings, room: int | None) -> Limits:
    """By the settings, as far as the model has room for prompt and answer."""
    asked = settings.source_length + settings.max_tokens
    whole = min(asked, room or asked)
    prompt, answer = min(settings.source_length, whole - 1), min(settings.max_tokens, whole - 1)
    return cls(prompt=prompt, answer=answer, whole=whole, answers=settings.slots + settings.queue)

  @property
  def lengths(self) -> Lengths:
    return Lengths(self.prompt, self.whole, self.answer)


async def read_body(request: Request) -> bytes:
  """The body of a request that says it is JSON.

  Raises:
    Refusal: 415, 413 or 408.
    starlette.requests.ClientDisconnect: the client has gone.
  """
  if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
    # Not mere form: what a foreign web page may send unasked is never of this type.
    raise Refusal("the body must be JSON: send the header Content-Type: application/json", status=415)
  body, size = bytearray(), 0
  try:
    async with asyncio.timeout(BODY_SECONDS):
      async for chunk in request.stream():
        size += len(chunk)
        if size <= BODY_BYTES:
          body += chunk
        elif size > PATIENCE * BODY_BYTES:
          raise _too_long()
  except TimeoutError:
    raise Refusal(
      f"the body did not come within {BODY_SECONDS:g} s", status=408, headers={"connection": "close"}
    ) from None
  if size > BODY_BYTES:  # told once all has come: a client that is still sending would not hear it
    raise _too_long()
  return bytes(body)


def _too_long() -> Refusal:
  return Refusal(
    f"the body has more than {BODY_BYTES} bytes", status=413, code="body_too_large", headers={"connection": "close"}
  )
