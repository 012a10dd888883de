"""Several processes at one command: how they stay in step, and what the first does for all.

All run the same program over the same rows, so that each takes every step that the others take. The first alone writes
what is shared, and says what is said.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fiat_jax import signals
from fiat_jax.errors import UserError

SEEN_SECONDS = 20.0  # a network's file system may show a new file late
PAGE = 1024  # bytes: messages are filled up to a power of two of these, for each size is compiled once

_number, _count = 0, 1


def become(number: int, count: int) -> None:
  """Tells once which process this is, from 0, and of how many."""
  global _number, _count
  _number, _count = number, count


def number() -> int:
  """Which process this is, from 0."""
  return _number


def count() -> int:
  """How many processes work together."""
  return _count


def first() -> bool:
  """Whether this is the one that writes what is shared."""
  return _number == 0


def of_first(value: Any) -> Any:
  """A value, such as JSON holds, as the first process has it; what others give does not count."""
  if _count == 1:
    return value
  import numpy as np
  from jax.experimental import multihost_utils

  sent = json.dumps(value).encode() if first() else b""
  length = int(multihost_utils.broadcast_one_to_all(np.int32(len(sent))))
  room = max(PAGE, 1 << (length - 1).bit_length())
  message = np.zeros(room, np.uint8)
  message[: len(sent)] = np.frombuffer(sent, np.uint8)
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(message))[:length].tobytes())


def of_each(text: str) -> list[str]:
  """What each process has to say, in up to `PAGE` bytes, by its number."""
  if _count == 1:
    return [text]
  import numpy as np
  from jax.experimental import multihost_utils

  message = np.zeros(PAGE, np.uint8)
  sent = text.encode()[:PAGE]
  message[: len(sent)] = np.frombuffer(sent, np.uint8)
  gathered = np.asarray(multihost_utils.process_allgather(message))
  return [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in gathered]


def by_first(action: Callable[[], Any]) -> Any:
  """Does something in the first process alone; what it gives, as JSON keeps it, is given to all.

  Raises:
    UserError: what the action raised, in all of them.
  """
  if _count == 1:
    return action()
  outcome: dict[str, Any] = {}
  try:
    outcome = {"value": action() if first() else None}
  except UserError as e:
    outcome = {"fault": str(e)}
  except BaseException:
    of_first({"fault": "the first process failed; what it says says why"})
    raise
  outcome = of_first(outcome)
  if "fault" in outcome:
    raise UserError(outcome["fault"])
  return outcome["value"]


@contextlib.contextmanager
def led() -> Iterator[None]:
  """Around what the first process does while the others ask `of_first` what comes next: at its end they get None."""
  try:
    yield
  except signals.Stopped:  # they have heard it too
    raise
  except BaseException:
    of_first(None)
    raise
  of_first(None)


def wait() -> None:
  """Until all have come here: what the first wrote before is there for all after it."""
  of_each("")


def check_signals() -> None:
  """As `signals.check`, where a signal to any process stops all of them at the same step."""
  if _count == 1:
    signals.check()
    return
  heard = max(int(number) for number in of_each(str(signals.received())))
  if heard:
    raise signals.Stopped(heard)


def check_same(what: str, text: str) -> None:
  """Refuses processes that were not told the same.

  Raises:
    UserError: some were told something else than the first, by number and host.
  """
  told = of_each(hashlib.sha256(text.encode()).hexdigest())
  if others := [number for number, digest in enumerate(told) if digest != told[0]]:
    raise UserError(f"{what} of process {_named(others)} are not those of process 0: give the same to all")


def check_shared(folder: pathlib.Path) -> None:
  """Refuses a folder that is not the same one for all processes, which exists for the first, by a file
  that the first writes there for a moment.

  Raises:
    UserError: some process does not see it.
  """
  if _count == 1:
    return
  token = folder / f".seen_by_all_{of_first(uuid.uuid4().hex)}"
  by_first(token.touch)
  until = time.monotonic() + SEEN_SECONDS
  while not (seen := token.exists()) and time.monotonic() < until:
    time.sleep(0.2)
    with contextlib.suppress(OSError):
      os.listdir(folder)  # a network's file system looks again
  blind = [number for number, saw in enumerate(of_each(str(seen))) if saw != "True"]
  by_first(lambda: token.unlink(missing_ok=True))
  if blind:
    raise UserError(
      f"process {_named(blind)} does not see what process 0 writes there: give a --model_dir that all hosts share",
      folder,
    )


def _named(numbers: Sequence[int]) -> str:
  hosts = of_each(socket.gethostname())
  return ", ".join(f"{number} ({hosts[number]})" for number in numbers)
