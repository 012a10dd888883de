"""SIGTERM and SIGINT asked for politely: the work is saved, then the process ends with 128 + the signal's number."""

from __future__ import annotations

import signal
from types import FrameType


class Stopped(Exception):
  """A signal asked the run to stop and its work is saved."""

  def __init__(self, number: int):
    super().__init__(signal.Signals(number).name)
    self.code = 128 + number


_received: list[int] = []


def listen() -> None:
  """From now on a first SIGTERM or SIGINT is only noted; a second one ends the process at once."""

  def note(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    signal.signal(number, signal.SIG_DFL)

  for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, note)


def received() -> int:
  """The number of the signal that has come; 0 where none has."""
  return _received[0] if _received else 0


def check() -> None:
  """Raises `Stopped` where a signal has come: called wherever stopping loses nothing."""
  if number := received():
    raise Stopped(number)
