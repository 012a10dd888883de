"""The key of an endpoint: read from the environment alone, and blotted out of what endpoints and libraries say."""

from __future__ import annotations

import os
import re
from typing import Any

from fiat_jax.errors import UserError

KEY = "OPENAI_API_KEY"
PLACEHOLDER = 6  # characters; a shorter one ("none", "EMPTY") is no secret, and may be a part of any word


def key_of(local: bool) -> str:
  """The user's key, without white space around it.

  Raises:
    UserError: there is none, unless the endpoint is on this machine; or it cannot stand in a request's header.
  """
  key = _given()
  if not key and not local:
    raise UserError(f"no key: set the environment variable {KEY}")
  if not re.fullmatch("[ -~]*", key):
    raise UserError(f"{KEY} holds what no key does (a line break, or a character that is not ASCII): set it anew")
  return key or "none"


def brief(text: Any, most: int = 200) -> str:
  """What was said elsewhere, on one line of so many characters at most, without the key."""
  key, said = _given(), str(text)
  if len(key) >= PLACEHOLDER:
    said = said.replace(key, f"[{KEY}]")
  return " ".join(said.split())[:most]


def _given() -> str:
  return os.environ.get(KEY, "").strip()
