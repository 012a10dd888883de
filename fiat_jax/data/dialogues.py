"""Chats as training reads them: every assistant's turn carries loss, in the place that it has in the conversation."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, NoReturn

import numpy as np

from fiat_jax.data import layouts, rows
from fiat_jax.data.batches import Shard
from fiat_jax.data.packing import Example
from fiat_jax.data.row_records import with_records
from fiat_jax.data.rows import Layout
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError

Messages = list[dict[str, str]]


class Encoded(NamedTuple):
  """A chat's ids: up to the assistant's first turn, from there on, and which of the latter the assistant says."""

  inputs: np.ndarray
  targets: np.ndarray
  learned: np.ndarray
  cut: bool


def conversations(path: str, layout: Layout) -> Iterator[tuple[int, Messages]]:
  """Line and messages of every row; one that is no chat is a question, its x, and an answer, its first target.

  Raises:
    UserError: a chat is no list of turns, or nobody answers in it.
  """
  file = rows.locate(path)[0]
  for row, record in with_records(path, layout):

    def fail(message: str, line: int = row.line) -> NoReturn:
      raise UserError(message, file, line)

    turns = layouts.turns(record, fail)
    if turns is None and not row.targets:
      fail("the row has no target to learn")
    yield row.line, turns or [{"role": "user", "content": row.x}, {"role": "assistant", "content": row.targets[0]}]


def encode(messages: Sequence[dict[str, str]], tokenizer: Tokenizer, limit: int) -> Encoded | int:
  """A chat of at most `limit` tokens: its last exchanges are left out until it is. Its length where none fits."""
  parts = tokenizer.encode_dialogue(messages)
  ends = np.cumsum([len(before) + len(turn) for before, turn in parts])
  kept = int(np.searchsorted(ends, limit, side="right"))
  if not kept:
    return int(ends[0])
  inputs, targets, learned = parts[0][0], list[int](), list[bool]()
  for number, (before, turn) in enumerate(parts[:kept]):
    between = before if number else []
    targets += between + turn
    learned += [False] * len(between) + [True] * len(turn)
  return Encoded(np.array(inputs, np.int32), np.array(targets, np.int32), np.array(learned), kept < len(parts))


class Dialogues(Shard):
  """`Examples`: the chats in a folder that `data/dialogue_shards.py` wrote."""

  def __init__(self, folder: pathlib.Path):
    super().__init__(folder)
    self._learned = np.load(folder / "learned.npy", mmap_mode="r")
    self._sources = np.load(folder / "rows.npy", mmap_mode="r")

  @property
  def sources(self) -> np.ndarray:
    return self._sources

  def of_epoch(self, seed: int, epoch: int) -> Dialogues:
    return self

  def __getitem__(self, index: int) -> Example:
    start = self._ends["targets"][index - 1] if index else 0
    learned = np.asarray(self._learned[start : self._ends["targets"][index]], bool)
    return super().__getitem__(index)._replace(learned=learned)
