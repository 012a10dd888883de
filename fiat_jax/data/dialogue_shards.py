"""Chats tokenised into a shard by several processes. How it grows and outlives a stop: `making.py`."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from fiat_jax import children
from fiat_jax.data import blocks, dialogues, making, rows
from fiat_jax.data.dialogues import Messages
from fiat_jax.data.making import Making
from fiat_jax.data.row import Layout
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError

BLOCK = 256  # rows that a process encodes at a time
FEW = 4 * BLOCK  # rows for which other processes take longer to start than to encode
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

Numbered = tuple[int, int, Messages]  # number, line and messages of a row


class Done(NamedTuple):
  """A block's rows, and its arrays by column; the longest chat that did not fit; or the fault of a row and its line."""

  rows: int
  columns: dict[str, np.ndarray]
  longest: int
  fault: tuple[str, int] | None


def write(path: str, layout: Layout, tokenizer: str, limit: int, shorten: bool, folder: pathlib.Path) -> None:
  """Makes the shard, or goes on making it.

  Args:
    tokenizer: the checkpoint's path.
    limit: the most tokens of a chat.
    shorten: a longer one loses its last exchanges, or is left out; otherwise it is refused.

  Raises:
    UserError: a chat is none, or too long.
  """
  count = len(rows.read_rows(path, layout))
  label = f"tokenising the chats of {rows.locate(path)[0].name}"

  def fill(made: Making) -> None:
    found = enumerate(dialogues.conversations(path, layout))
    numbered = ((number, *chat) for number, chat in itertools.islice(found, made.rows, None))
    for done in blocks.worked(numbered, _encode, _load, (tokenizer, limit), size=BLOCK, few=FEW):
      if done.fault:
        raise UserError(done.fault[0], rows.locate(path)[0], done.fault[1])
      if made.append(done.columns, done.rows, done.longest):
        children.tell(label, made.rows, count)
    _refuse(made, path, limit, shorten)

  making.make(folder, COLUMNS, fill)


def _refuse(made: Making, path: str, limit: int, shorten: bool) -> None:
  count, cut, left_out = (made.length(name) for name in ("rows", "truncated", "left_out"))
  if ((cut or left_out) and not shorten) or not count:
    raise UserError(
      f"{cut + left_out} of {count + left_out} chats have more than --source_length {limit} tokens (of their first "
      f"exchange, up to {made.most}): set it higher, or give --truncate turns, which leaves out the last exchanges, "
      "and chats of which not even the first fits",
      rows.locate(path)[0],
    )


_worker: dict[str, Any] = {}


def _load(tokenizer: str, limit: int) -> None:
  _worker.update(tokenizer=Tokenizer.load(tokenizer), limit=limit)


def _encode(block: Sequence[Numbered]) -> Done:
  made: list[dialogues.Encoded] = []
  numbers, cut, left_out, longest = [], [], [], 0
  for number, line, messages in block:
    try:
      found = dialogues.encode(messages, _worker["tokenizer"], _worker["limit"])
    except UserError as e:
      return Done(0, {}, 0, (e.args[0] if e.args else str(e), line))
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
  return Done(len(block), columns | {"truncated": _ints(cut), "left_out": _ints(left_out)}, longest, None)


def _ints(values: Sequence[int] | Iterator[int]) -> np.ndarray:
  return np.array(list(values), np.int32)
