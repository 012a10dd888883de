"""The two files of a batch: requests as they go up, a line each, and answers and errors as they come down."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator
from typing import Any

from fiat_jax.reasoning.api_key import brief
from fiat_jax.reasoning.desk import Dealt
from fiat_jax.reasoning.dialect import Dialect, is_chat, read, told
from fiat_jax.reasoning.request import Answer

NOT_CHARGED = ("batch_expired", "batch_cancelled", "batch_canceled")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Came:
  """What came of one request: an answer, or the reason why there is none and whether it may have been charged."""

  key: str
  answer: Answer | None = None
  status: int = 0
  reason: str = ""
  charged: bool = False


def url_of(claim: Dealt) -> str:
  """The endpoint's path for a request, as a batch names it."""
  return "/v1/chat/completions" if is_chat(claim.request) else "/v1/completions"


def line_of(claim: Dealt, dialect: Dialect) -> bytes:
  """A request's line."""
  line = {"custom_id": claim.asked.key, "method": "POST", "url": url_of(claim), "body": dialect.body(claim.request)}
  return json.dumps(line).encode() + b"\n"


def came(lines: Iterable[bytes]) -> Iterator[Came]:
  """What a file of answers or errors says. A line that cannot be read says nothing."""
  for raw in lines:
    try:
      line = json.loads(raw)
      key, response, error = line["custom_id"], line.get("response") or {}, line.get("error") or {}
      status, body = response.get("status_code", 0), response.get("body")
    except (ValueError, KeyError, TypeError, AttributeError):
      continue
    if status == 200:
      yield Came(key=key, answer=_read(body), status=status)
    elif error.get("code"):
      reason = brief(f"{error['code']}: {error.get('message', '')}")
      yield Came(key=key, reason=reason, charged=error["code"] not in NOT_CHARGED)
    else:
      yield Came(key=key, status=status, reason=told(status, _message(body)), charged=status == 0)


def _read(body: Any) -> Answer:
  """In either form: which one was asked for need not be known."""
  reason = ""
  for chat in (True, False):
    try:
      return read(body, chat=chat)
    except ValueError as e:
      reason = str(e)
  return Answer(text="", finish="broken", tokens=None, broken=f"a broken answer: {reason}")


def _message(body: Any) -> Any:
  for name in ("error", "message"):
    body = body.get(name, body) if isinstance(body, dict) else body
  return body
