"""How an endpoint of OpenAI's protocol wants to be asked, and how its answers and refusals are read."""

from __future__ import annotations

import contextvars
import email.utils
import time
from typing import Any

import openai

from fiat_jax.errors import UserError
from fiat_jax.reasoning.api_key import KEY, brief
from fiat_jax.reasoning.request import Answer, Request

RETRIED = (408, 429)  # and 5xx
LOCAL = ("ConnectError", "ConnectTimeout", "PoolTimeout", "LocalProtocolError", "UnsupportedProtocol")  # of httpx
BEGUN = "begun"  # an extension of httpx requests
LONGEST_WAIT = 600.0  # seconds, whatever an endpoint asks for
MOST_STOPS = 4  # that the protocol takes; what an answer holds beyond others is cut off here
_begun: contextvars.ContextVar[list[int]] = contextvars.ContextVar("begun")
REFUSING = ("unsupported", "not support", "unrecognized", "not allowed", "not permitted", "only the default")
OPTIONAL = {"max_tokens": "max_tokens", "temperature": "temperature", "'stop'": "stop"}  # as refusals name them


class Dialect:
  """What one endpoint takes: parameters that it refused are left out, or go under another name.

  Attributes:
    model: the model's name there.
    endpoint: its address, for messages.
  """

  def __init__(self, model: str, endpoint: str):
    self.model, self.endpoint = model, endpoint
    self._dropped = set[str]()

  def body(self, request: Request) -> dict[str, Any]:
    """What is sent about a request."""
    asking, chat = request.asking, is_chat(request)
    limit = "max_completion_tokens" if "max_tokens" in self._dropped and chat else "max_tokens"
    given: dict[str, Any] = {"model": self.model, limit: asking.length}
    if "temperature" not in self._dropped:
      given["temperature"] = asking.temperature
    if asking.stops and "stop" not in self._dropped:
      given["stop"] = list(asking.stops[:MOST_STOPS])
    asked = {"messages": [{"role": "user", "content": request.prompt}]} if chat else {"prompt": request.prompt}
    return given | asked

  def knows(self, body: dict[str, Any]) -> bool:
    """Whether a body is one that would be sent today: nothing in it has been refused since."""
    return not self._dropped & body.keys()

  @property
  def left_out(self) -> frozenset[str]:
    """The parameters that were refused."""
    return frozenset(self._dropped)

  def blames(self, status: int, text: str) -> bool:
    """Whether a refusal is about a parameter that need not be sent, or not under this name."""
    return bool(_blamed(status, text))

  def learns(self, status: int, text: str) -> bool:
    """Whether a refusal is about a parameter that was sent until now: from now on it is not."""
    fresh = sorted(_blamed(status, text) - self._dropped)[:1]
    self._dropped |= set(fresh)
    return bool(fresh)

  def require_welcome(self, status: int) -> None:
    """Raises UserError where a status says that nothing at all can be asked."""
    if status in (401, 403, 404):
      hint = f"check --beta and --beta_url, and {KEY}" if status != 401 else f"check {KEY}"
      raise UserError(f"{self.endpoint} refuses ({status}): {hint}. What was answered before is kept")


def is_chat(request: Request) -> bool:
  return request.asking.template == "chat"


def read(body: Any, *, chat: bool) -> Answer:
  """The answer in a response's body, as it is charged. Raises ValueError where it holds none."""
  try:
    choice = body["choices"][0]
    text = choice["message"]["content"] if chat else choice["text"]
    if not isinstance(text, str | None):
      raise TypeError
  except (KeyError, IndexError, TypeError):
    raise ValueError(f"no text in {brief(body, 100)!r}") from None
  return Answer(text=text or "", finish=choice.get("finish_reason") or "none", tokens=_charged(body.get("usage")))


def _blamed(status: int, text: str) -> set[str]:
  if status not in (400, 422) or not any(word in text.lower() for word in REFUSING):
    return set()
  return {name for said, name in OPTIONAL.items() if said in text}


def _charged(usage: Any) -> tuple[int, int] | None:
  """Input and output tokens; thinking tokens stand in the output, or only in the total."""
  if not isinstance(usage, dict):
    return None
  read, *more = (usage.get(f"{name}_tokens") for name in ("prompt", "completion", "total"))
  if type(read) is not int or not all(count is None or type(count) is int for count in more) or read < 0:
    return None
  written, total = (count or 0 for count in more)
  return read, max(written, total - read, 0)


def passes(status: int) -> bool:
  """Whether what a status refuses may be granted later."""
  return status in RETRIED or status >= 500


async def note_begin(response: Any) -> None:
  """A client's hook on responses, for `begun_with` and `begins`: called as a status line and headers have come."""
  response.request.extensions[BEGUN] = response.status_code
  _begun.get([]).append(response.status_code)


def begins() -> list[int]:
  """A list that from now on gets the status of each response that begins in this task."""
  found: list[int] = []
  _begun.set(found)
  return found


def begun_with(e: openai.APIConnectionError) -> int:
  """The status of a response that broke off or stalled in its body; 0 where none had begun."""
  return e.request.extensions.get(BEGUN, 0)


def never_left(e: openai.APIConnectionError) -> bool:
  """Whether no part of the request can have reached the endpoint: nothing is charged."""
  return type(e.__cause__).__name__ in LOCAL


def wait_of(e: openai.APIStatusError) -> float:
  """The seconds that a refusal asks to wait, as a number or as a date by the endpoint's clock."""
  headers = e.response.headers
  said = headers.get("retry-after", "0")
  try:
    seconds = float(said)
  except ValueError:
    until = _moment(said)
    seconds = until - (_moment(headers.get("date", "")) or time.time()) if until else 0.0
  return min(LONGEST_WAIT, max(0.0, seconds))


def _moment(said: str) -> float:
  """Seconds since 1970 of an HTTP date; 0 where it is none."""
  try:
    return email.utils.parsedate_to_datetime(said).timestamp()
  except (ValueError, OverflowError):
    return 0.0


def told(status: int, message: Any) -> str:
  return f"status {status}: {brief(message)}"
