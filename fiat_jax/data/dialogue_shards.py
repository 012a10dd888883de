"""Chats tokenised into a shard by several processes, with progress that outlives a stop.

The folder that a shard is made in is named like it, so that the next process goes on where the last one wrote down how
far it had come; only one works there at a time. No more than some blocks of rows are ever in memory.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import multiprocessing
import os
import pathlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fiat_jax import children
from fiat_jax.data import dialogues, rows
from fiat_jax.data.columns import Column
from fiat_jax.data.dialogues import Messages
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.whole import write_whole

BLOCK = 256  # rows that a process encodes at a time
FEW = 4 * BLOCK  # rows for which other processes take longer to start than to encode
CHECKPOINT = 16  # blocks after which progress is written down
COLUMNS = {
  "inputs": "<i4",
  "targets": "<i4",
  "learned": "|b1",
  "inputs_lengths": "<i4",
  "targets_lengths": "<i4",
  "rows": "<i4",
  "truncated": "<i4",
  "left_out": "<i4",
}

Block = list[tuple[int, int, Messages]]  # number, line and messages of each row


class Done(NamedTuple):
  """A block's arrays, by column; the longest chat that did not fit; or the fault of a row and its line."""

  columns: dict[str, np.ndarray]
  longest: int
  fault: tuple[str, int] | None


def write(path: str, layout: rows.Layout, tokenizer: str, limit: int, shorten: bool, folder: pathlib.Path) -> None:
  """Makes the shard, or goes on making it.

  Args:
    tokenizer: the checkpoint's path.
    limit: the most tokens of a chat.
    shorten: a longer one loses its last exchanges, or is left out; otherwise it is refused.

  Raises:
    UserError: a chat is none, or too long.
  """
  work = folder.with_name(f"{folder.name}.making")
  work.mkdir(parents=True, exist_ok=True)
  with _alone(work):
    if folder.is_dir():  # another process was quicker
      shutil.rmtree(work, ignore_errors=True)
      return
    kept = json.loads(file.read_text()) if (file := work / "progress.json").exists() else {}
    with contextlib.ExitStack() as stack:
      lengths = kept.get("lengths", {})
      columns = {
        name: stack.enter_context(Column(work / f"{name}.npy", dtype, lengths.get(name, 0)))
        for name, dtype in COLUMNS.items()
      }
      try:
        _append(columns, work, path, layout, tokenizer, limit, kept)
      except UserError:
        shutil.rmtree(work)  # the rows will be others
        raise
    _finish(work, folder, path, limit, shorten)


def _append(
  columns: dict[str, Column], work: pathlib.Path, path: str, layout: rows.Layout, tokenizer: str, limit: int, kept: dict
) -> None:
  begun, longest = kept.get("rows", 0), kept.get("longest", 0)
  found = enumerate(dialogues.conversations(path, layout))
  numbered = ((number, line, messages) for number, (line, messages) in itertools.islice(found, begun, None))
  for count, done in enumerate(_encoded(numbered, tokenizer, limit), 1):
    if done.fault:
      raise UserError(done.fault[0], rows.locate(path)[0], done.fault[1])
    for name, values in done.columns.items():
      columns[name].append(values)
    longest = max(longest, done.longest)
    if count % CHECKPOINT == 0:
      for column in columns.values():
        column.flush()
      lengths = {name: column.length for name, column in columns.items()}
      progress = {"rows": begun + count * BLOCK, "longest": longest, "lengths": lengths}
      write_whole(work / "progress.json", json.dumps(progress))
  write_whole(work / "longest.json", json.dumps(longest))


def _finish(work: pathlib.Path, folder: pathlib.Path, path: str, limit: int, shorten: bool) -> None:
  count, cut, left_out = (
    len(np.load(work / f"{name}.npy", mmap_mode="r")) for name in ("rows", "truncated", "left_out")
  )
  if ((cut or left_out) and not shorten) or not count:
    longest = json.loads((work / "longest.json").read_text())
    shutil.rmtree(work)
    raise UserError(
      f"{cut + left_out} of {count + left_out} chats have more than --source_length {limit} tokens (of their first "
      f"exchange, up to {longest}): set it higher, or give --truncate turns, which leaves out the last exchanges, and "
      "chats of which not even the first fits",
      rows.locate(path)[0],
    )
  for name in ("inputs", "targets"):
    np.save(work / f"{name}_ends.npy", np.cumsum(np.load(work / f"{name}_lengths.npy"), dtype=np.int64))
    (work / f"{name}_lengths.npy").unlink()
  (work / "progress.json").unlink(missing_ok=True)
  os.rename(work, folder)


def _encoded(numbered: Iterator[tuple[int, int, Messages]], tokenizer: str, limit: int) -> Iterator[Done]:
  """Each block in order, encoded here where there are few, or by as many processes as there are processors."""
  few = list(itertools.islice(numbered, FEW))
  numbered = itertools.chain(few, numbered)
  if len(few) < FEW:
    _load(tokenizer, limit)
    while block := list(itertools.islice(numbered, BLOCK)):
      yield _encode(block)
    return
  processes = len(os.sched_getaffinity(0))
  context, room = multiprocessing.get_context("spawn"), threading.Semaphore(4 * processes)

  def blocks() -> Iterator[Block]:
    while block := list(itertools.islice(numbered, BLOCK)):
      room.acquire()  # no more than so many blocks wait
      yield block

  with context.Pool(processes, _begin, (tokenizer, limit, os.getpid())) as pool:
    try:
      for done in pool.imap(_encode, blocks()):
        room.release()
        yield done
    finally:
      for _ in range(4 * processes):  # the pool's own thread must not wait on
        room.release()


_worker: dict[str, Any] = {}


def _begin(tokenizer: str, limit: int, parent: int) -> None:
  os.environ |= {"TOKENIZERS_PARALLELISM": "false", children.PARENT: str(parent)}
  children.end_with_parent()
  _load(tokenizer, limit)


def _load(tokenizer: str, limit: int) -> None:
  _worker.update(tokenizer=_tokenizer(tokenizer), limit=limit)


@functools.lru_cache(maxsize=2)
def _tokenizer(path: str) -> Tokenizer:
  return Tokenizer.load(path)


def _encode(block: Block) -> Done:
  made: list[dialogues.Encoded] = []
  numbers, cut, left_out, longest = [], [], [], 0
  for number, line, messages in block:
    try:
      found = dialogues.encode(messages, _worker["tokenizer"], _worker["limit"])
    except UserError as e:
      return Done({}, 0, (e.args[0] if e.args else str(e), line))
    if isinstance(found, int):
      left_out.append(number)
      longest = max(longest, found)
      continue
    made.append(found)
    numbers.append(number)
    cut += [number] if found.cut else []
  joined = lambda name: np.concatenate([np.zeros(0, COLUMNS[name]), *(getattr(one, name) for one in made)])  # noqa: E731
  columns = {name: joined(name) for name in ("inputs", "targets", "learned")}
  columns |= {"inputs_lengths": _ints(len(one.inputs) for one in made), "rows": _ints(numbers)}
  columns |= {"targets_lengths": _ints(len(one.targets) for one in made)}
  return Done(columns | {"truncated": _ints(cut), "left_out": _ints(left_out)}, longest, None)


def _ints(values: Sequence[int] | Iterator[int]) -> np.ndarray:
  return np.array(list(values), np.int32)


@contextlib.contextmanager
def _alone(work: pathlib.Path) -> Iterator[None]:
  """Waits until no other process works in the folder."""
  with open(work.with_name(f"{work.name}.lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    work.mkdir(exist_ok=True)
    yield
