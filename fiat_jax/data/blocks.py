"""Rows worked on in blocks by several processes: results come in order, and few blocks are ever in memory."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from fiat_jax import children

T = TypeVar("T")
R = TypeVar("R")

WAITING = 4  # blocks for each process


def worked(
  items: Iterator[T],
  work: Callable[[Sequence[T]], R],
  begin: Callable[..., None],
  given: tuple,
  *,
  size: int,
  few: int,
) -> Iterator[R]:
  """What `work` makes of each block of `size` items, in order; of a last one that is shorter, too.

  Args:
    begin: is called with what is `given` in every process that works, before anything else there.
    few: fewer items are worked on here: other processes would take longer to start.
  """
  first = list(itertools.islice(items, few))
  blocks = _blocks(itertools.chain(first, items), size)
  if len(first) < few:
    begin(*given)
    yield from map(work, blocks)
    return
  processes = len(os.sched_getaffinity(0))
  context, room = multiprocessing.get_context("spawn"), threading.Semaphore(WAITING * processes)

  def waiting() -> Iterator[Sequence[T]]:
    for block in blocks:
      room.acquire()
      yield block

  with context.Pool(processes, _begin, (begin, given, os.getpid())) as pool:
    try:
      for done in pool.imap(work, waiting()):
        room.release()
        yield done
    finally:
      for _ in range(WAITING * processes):  # the pool's own thread must not wait on
        room.release()


def _blocks(items: Iterator[T], size: int) -> Iterator[Sequence[T]]:
  while block := list(itertools.islice(items, size)):
    yield block


def _begin(begin: Callable[..., None], given: tuple, parent: int) -> None:
  os.environ |= {"TOKENIZERS_PARALLELISM": "false", children.PARENT: str(parent)}
  children.end_with_parent(cleans_up=False)
  children.spare_imports()
  begin(*given)
