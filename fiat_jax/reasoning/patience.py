"""Calls of an endpoint that may be repeated, until one is answered; and waiting that a signal ends."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

import openai

from fiat_jax import signals
from fiat_jax.errors import UserError
from fiat_jax.reasoning.api_key import brief
from fiat_jax.reasoning.dialect import Dialect, passes, told, wait_of

T = TypeVar("T")

ATTEMPTS = 8
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0


def patiently(dialect: Dialect, call: Callable[[], T]) -> T:
  """What a call gives that may be repeated.

  Raises:
    UserError: the endpoint cannot be asked.
    NotFoundError: it does not know what is asked for.
  """
  reason = ""
  for attempt in range(1, ATTEMPTS + 1):
    try:
      return call()
    except openai.NotFoundError:
      raise
    except openai.APIStatusError as e:
      dialect.require_welcome(e.status_code)
      reason, wait = told(e.status_code, e.message), wait_of(e)
      if not passes(e.status_code):
        raise UserError(f"{dialect.endpoint} refuses: {reason}") from None
    except (openai.APIError, ValueError) as e:
      reason, wait = brief(e), 0.0
    back_off(attempt, wait)
  raise UserError(f"{dialect.endpoint}: {ATTEMPTS} attempts came to nothing; the last: {reason}")


def back_off(attempt: int, wait: float = 0.0) -> None:
  """Waits after so many attempts, at least as long as the endpoint asks for. Raises as `sleep` does."""
  sleep(max(wait, min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0)))


def sleep(seconds: float) -> None:
  """Waits. Raises `signals.Stopped` as soon as a signal comes."""
  until = time.monotonic() + seconds
  while (left := until - time.monotonic()) > 0:
    signals.check()
    time.sleep(min(0.2, left))
  signals.check()
