"""The store: every answer of a big model, bought once. What was asked is its key (`request.py`).

Records (`records.py`) of three kinds, in `answers-NNNNN.jsonl`. `session`: who asks what with which prompt; it comes
before what that session writes. `answer`: a text that came, and `fault` where it cannot be used (cut off, empty).
`failure`: none came, and why. Neither a fault nor a failure counts as done; what came with a fault is not asked for
again unless the user says so, for it is paid.
"""

from __future__ import annotations

import dataclasses
import datetime
import getpass
import json
import pathlib
import socket
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from fiat_jax.data.tables import records
from fiat_jax.errors import UserError
from fiat_jax.reasoning.records import Record, Records
from fiat_jax.reasoning.request import Answer, Request
from fiat_jax.whole import write_whole


@dataclasses.dataclass(frozen=True)
class Kept:
  """What is known of an answer without its text: its fault, its tokens, the prompt's bytes, whom it is of."""

  fault: str
  tokens: tuple[int, int] | None
  bytes: int
  asked: tuple[str, str]


class Store:
  """A folder of answers.

  Attributes:
    kept: every answer by its key; of several with one key, the last.
    failures: why no answer came, by key, where none has come since.
    costs: what each reservation of the ledger came to, by its id.
  """

  def __init__(self, folder: pathlib.Path, session: str):
    self.folder, self.session = folder, session
    self.log = Records(folder, "answers")
    self.kept: dict[str, Kept] = {}
    self.failures: dict[str, str] = {}
    self.costs: dict[str, float] = {}
    self.refresh()

  def refresh(self) -> None:
    """Takes in what other processes have added."""
    for record in self.log.fresh():
      if record.get("kind") == "answer":
        tokens = record["tokens"]
        asked = (record["beta"], record["endpoint"])
        self.kept[record["key"]] = Kept(record["fault"], tokens and tuple(tokens), record["bytes"], asked)
        self.failures.pop(record["key"], None)
        if record["cost"] is not None:
          self.costs[record["reservation"]] = record["cost"]
      elif record.get("kind") == "failure":
        self.failures[record["key"]] = record["reason"]

  def answered(self, key: str) -> bool:
    """Whether there is an answer that can be used."""
    return key in self.kept and not self.kept[key].fault

  def begin(self, asked: Mapping[str, Any], prompt: str) -> None:
    """Writes who asks what; `prompt` is one of those that will be sent."""
    self._append({"kind": "session", "by": f"{_user()}@{socket.gethostname()}", "asked": dict(asked), "prompt": prompt})

  def answer(self, request: Request, answer: Answer, cost: float | None, reservation: str) -> None:
    """Keeps an answer, with its fault if it has one, and its cost where that was told."""
    self._append(
      {
        "kind": "answer",
        "key": request.key,
        "row": request.row,
        "sample": request.sample,
        "beta": request.asking.beta,
        "endpoint": request.asking.endpoint,
        "bytes": len(request.prompt.encode()),
        "text": answer.text,
        "finish": answer.finish,
        "fault": answer.fault,
        "tokens": answer.tokens,
        "cost": cost,
        "reservation": reservation,
      }
    )

  def failure(self, request: Request, reason: str) -> None:
    """Keeps why no answer came."""
    self._append({"kind": "failure", "key": request.key, "row": request.row, "reason": reason})

  def texts(self, keys: Collection[str]) -> dict[str, str]:
    """The texts of answers without a fault, by key."""
    found = {}
    for record in Records(self.folder, "answers").fresh():
      if record.get("kind") == "answer" and not record["fault"] and record["key"] in keys:
        found[record["key"]] = record["text"]
    return found

  def export(self, file: pathlib.Path) -> int:
    """Writes the last answer to each key, and who asked; returns how many answers."""
    answers, sessions = {}, []
    for record in Records(self.folder, "answers").fresh():
      if record.get("kind") == "answer":
        answers[record["key"]] = record
      elif record.get("kind") == "session":
        sessions.append(record)
    lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in [*sessions, *answers.values()]]
    write_whole(file, "".join(lines))
    return len(answers)

  def take_over(self, file: pathlib.Path) -> int:
    """Adds the answers of an exported file that are not here, as bought elsewhere; returns how many.

    Raises:
      UserError: a line is none that a store exports.
    """
    found, here = [], dict(self.kept)
    for line, record in records(file):
      if record.get("kind") not in ("answer", "session"):
        raise UserError("is no answer of a store: give a file that `fiat annotate --export_to` wrote", file, line)
      if record["kind"] == "session" or not self.answered(record["key"]):
        found.append(record | {"imported": True, "cost": 0.0} if record["kind"] == "answer" else record)
    self._write(found)
    return len(self.kept) - len(here)

  def _append(self, record: Record) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    self._write([{**record, "session": self.session, "time": now}])

  def _write(self, found: Iterable[Record]) -> None:
    with self.log.locked():
      self.log.append(found)
      self.refresh()


def _user() -> str:
  try:
    return getpass.getuser()
  except (KeyError, OSError):  # a container's user without a name
    return "unknown"
