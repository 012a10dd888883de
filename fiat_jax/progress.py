"""Progress of long work: a bar on a terminal, a line now and then elsewhere, nothing when quiet. All on stderr."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

LINE_SECONDS = 10.0
LONG = 10_000  # so many units of quick work take long enough to be watched
STARTED = time.monotonic()  # of the command: its first module imports this one

_quiet = False


def silence(quiet: bool) -> None:
  """Whether anything is said from now on."""
  global _quiet
  _quiet = quiet


def silent() -> bool:
  """Whether nothing is said."""
  return _quiet


def say(text: str) -> None:
  """One line of news."""
  if not _quiet:
    print(text, file=sys.stderr, flush=True)


class Progress:
  """Counts up to `total`; `note` is shown beside the count."""

  def __init__(self, label: str, total: int, bar=None):
    self._label, self._total, self._bar = label, total, bar
    self._task = bar.add_task(label, total=total, note="") if bar else None
    self._done, self._note = 0, ""
    self._started = self._spoken = time.monotonic()

  def advance(self, amount: int = 1, note: str = "") -> None:
    self._done, self._note = self._done + amount, note
    if self._bar:
      self._bar.update(self._task, advance=amount, note=note)
    elif not _quiet and (time.monotonic() - self._spoken > LINE_SECONDS or self._done == self._total):
      self._spoken = time.monotonic()
      seconds = self._spoken - self._started
      say(f"{self._label}: {self._done}/{self._total}, {seconds:.0f} s{', ' + note if note else ''}")


@contextlib.contextmanager
def progress(label: str, total: int, done: int = 0) -> Iterator[Progress]:
  """A `Progress` of `total` units, `done` of which are behind already."""
  if _quiet or not sys.stderr.isatty():
    work = Progress(label, total)
    work._done = done
    yield work
    return
  from rich import progress as rich_progress
  from rich.console import Console

  columns = ("{task.description}", rich_progress.BarColumn(), "{task.completed}/{task.total}", "{task.fields[note]}")
  with rich_progress.Progress(*columns, rich_progress.TimeRemainingColumn(), console=Console(stderr=True)) as bar:
    work = Progress(label, total, bar)
    if done:
      work.advance(done)
    yield work


@contextlib.contextmanager
def watched(label: str, total: int) -> Iterator[Callable[[int], None]]:
  """Progress of quick work, advanced by the function that it gives: of less than `LONG` units nothing is shown."""
  if total < LONG:
    yield lambda count: None
    return
  with progress(label, total) as work:
    yield work.advance
