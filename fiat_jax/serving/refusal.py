"""What a client gets in place of an answer, in the shape of OpenAI's errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


class Refusal(Exception):
  """A request that is not answered.

  Args:
    message: what was found and what to do.
    param: the field that it is about.
    code: what programs go by, such as `context_length_exceeded`.
    status: of HTTP.
    headers: sent beside it.
  """

  def __init__(
    self,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    status: int = 400,
    headers: Mapping[str, str] | None = None,
  ):
    super().__init__(message)
    self.message, self.param, self.code, self.status, self.headers = message, param, code, status, dict(headers or {})

  @property
  def body(self) -> dict[str, Any]:
    kind = "server_error" if self.status >= 500 else _TYPES.get(self.status, "invalid_request_error")
    return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

  def json(self) -> bytes:
    return json.dumps(self.body).encode()
