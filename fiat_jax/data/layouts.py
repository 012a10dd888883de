"""Layouts that other programs write, recognised where rows lack the column `target`: alpaca's and chats.

alpaca: `instruction`, `input` (may be empty) and `output`. Chats: `messages` of `role` and `content`, or
`conversations` of `from` and `value`; the last assistant turn is the target, what stands before it the input, and what
stands after it is left out. A lone user turn is the input as it stands; more turns are lines `User: …`,
`Assistant: …`, `System: …`.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol

from fiat_jax import progress
from fiat_jax.data.tables import Record, kind
from fiat_jax.errors import UserError

TARGET = "target"
CHATS = {"messages": ("role", "content"), "conversations": ("from", "value")}
SPEAKERS = {"user": "User", "human": "User", "assistant": "Assistant", "gpt": "Assistant", "system": "System"}

Fail = Callable[[str], NoReturn]


class Columns(Protocol):
  """What of `row.Layout` matters here."""

  @property
  def target(self) -> str: ...
  @property
  def input(self) -> str: ...


def recognised(
  found: Iterator[Record], layout: Columns, file: pathlib.Path, labelled: bool, *, again: bool = False
) -> Iterator[Record]:
  """The records, with `input` and `target` made where the first one is of a known layout.

  Which one is said on stderr, unless the file is read `again`.
  """
  first = next(found, None)
  if first is None:
    return
  column = _recognise(first[1], layout, labelled)
  if column and not again:
    what = "alpaca (instruction, input, output)" if column == "instruction" else f"chat ({column})"
    progress.say(f"{file}: read as {what}: there is no column {TARGET!r}")
  for line, record in itertools.chain([first], found):
    if column:

      def fail(message: str, line: int = line) -> NoReturn:
        raise UserError(message, file, line)

      record = (
        _alpaca(record, layout, labelled, fail) if column == "instruction" else _chat(record, column, layout, fail)
      )
    yield line, record


def is_known(record: dict[str, Any], layout: Columns) -> bool:
  """Whether a file that begins with this row is of another program's layout."""
  return _recognise(record, layout, labelled=False) is not None


def _recognise(record: dict[str, Any], layout: Columns, labelled: bool) -> str | None:
  if layout.target != TARGET or TARGET in record:
    return None
  if "instruction" in record and ("output" in record or not labelled):
    return "instruction"
  return next((column for column in CHATS if isinstance(record.get(column), list)), None)


def turns(record: dict[str, Any], fail: Fail) -> list[dict[str, str]] | None:
  """The turns of a chat from the first of the user's (or a system message) to the assistant's last, as `role` and
  `content`; None where the record is no chat."""
  column = next((column for column in CHATS if isinstance(record.get(column), list)), None)
  if column is None:
    return None
  said = [_turn(turn, *CHATS[column], fail) for turn in record[column]]
  speakers = [speaker for speaker, _ in said]
  first = next((n for n, speaker in enumerate(speakers) if speaker != "Assistant"), len(said))
  last = max((n for n, speaker in enumerate(speakers) if speaker == "Assistant"), default=-1)
  if "User" not in speakers[first:last]:
    fail(f"the field {column!r} has no user's turn before the assistant's last")
  return [{"role": speaker.lower(), "content": text} for speaker, text in said[first : last + 1]]


def _alpaca(record: dict[str, Any], layout: Columns, labelled: bool, fail: Fail) -> dict[str, Any]:
  for name in ("instruction", "output") if labelled else ("instruction",):
    if not isinstance(record.get(name), str):
      fail(f"the field {name!r} holds a {kind(record.get(name))}, not text: the first row is in alpaca's layout")
  more = record.get("input")
  x = f"{record['instruction']}\n\n{more}" if isinstance(more, str) and more.strip() else record["instruction"]
  return _made(record, layout, x, record.get("output"))


def _chat(record: dict[str, Any], column: str, layout: Columns, fail: Fail) -> dict[str, Any]:
  turns = record.get(column)
  if not isinstance(turns, list) or not turns:
    fail(f"the field {column!r} is no list of turns, as the first row's is")
  said = [_turn(turn, *CHATS[column], fail) for turn in turns]
  last = max((n for n, (speaker, _) in enumerate(said) if speaker == "Assistant"), default=None)
  before, target = (said, None) if last is None else (said[:last], said[last][1])
  if not any(speaker == "User" for speaker, _ in before):
    fail(f"the field {column!r} has no user's turn before the assistant's last")
  alone = len(before) == 1
  x = before[0][1] if alone else "\n".join(f"{speaker}: {text}" for speaker, text in before)
  return _made(record, layout, x, target)


def _turn(turn: Any, role: str, content: str, fail: Fail) -> tuple[str, str]:
  if not isinstance(turn, dict) or not isinstance(turn.get(role), str):
    fail(f"a turn is no object with {role!r} and {content!r}")
  speaker = SPEAKERS.get(turn[role])
  if speaker is None:
    fail(f"a turn's {role!r} is {turn[role]!r}: known are {', '.join(SPEAKERS)}")
  text = turn.get(content)
  if isinstance(text, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in text):
    text = "".join(part["text"] for part in text)
  if not isinstance(text, str):
    fail(f"a turn's {content!r} holds a {kind(text)}, not text")
  return speaker, text


def _made(record: dict[str, Any], layout: Columns, x: str, target: str | None) -> dict[str, Any]:
  """With `target`, and with `input` unless a template of the user's names the columns."""
  made = record if layout.input else {**record, "input": x}
  return made if target is None else {**made, TARGET: target}
