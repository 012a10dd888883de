"""The store: every answer of a big model, bought once. What was asked is its key (`request.py`).

Records (`records.py`) of three kinds, in `answers-NNNNN.jsonl`. `session`: who asks what with which prompt; it comes
before what that session writes. `answer`: a text that came, and `fault` where it cannot be used (cut off, empty).
`failure`: none came, and why. Neither a fault nor a failure counts as done; what came with a fault is not asked for
again unless the user says so, for it is paid.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import fcntl
import getpass
import json
import pathlib
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fiat_jax.data.tables import records
from fiat_jax.errors import UserError
from fiat_jax.reasoning.batches import Batches
from fiat_jax.reasoning.records import Place, Record, Records
from fiat_jax.reasoning.request import Answer, Asked, Claim
from fiat_jax.whole import writing

CHUNK = 1000  # records of an import that are written at a time
EXPORTED = {"key", "row", "sample", "beta", "endpoint", "bytes", "text", "finish", "fault", "tokens"}


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
  """What is known of an answer without its text: fault, tokens, the prompt's bytes, whom it is of, where it stands, and
  the seconds that it took, where they were told.
  """

  fault: str
  tokens: tuple[int, int] | None
  bytes: int
  asked: tuple[str, str]
  place: Place
  seconds: float | None = None


class Store:
  """A folder of answers.

  Attributes:
    kept: every answer by its key; of several with one key the last, but one without a fault before all others.
    failures: why no answer came, by key, where none has come since.
    costs: what each reservation of the ledger came to, by its id; None where the answer came without.
    batches: what an endpoint works on by itself.
    unpriced: input and output tokens of answers that were bought before anybody said what they cost.
  """

  def __init__(self, folder: pathlib.Path, session: str):
    self.folder, self.session = folder, session
    self.log = Records(folder, "answers")
    self.kept: dict[str, Kept] = {}
    self.failures: dict[str, str] = {}
    self.costs: dict[str, float | None] = {}
    self.unpriced = (0, 0)
    self.batches = Batches(folder)
    self._asked: dict[tuple[str, str], tuple[str, str]] = {}
    self.refresh()

  def refresh(self) -> None:
    """Takes in what other processes have added."""
    self.batches.refresh()  # before the answers: those of a batch that has ended are there
    for record in self.log.fresh():
      if record.get("kind") == "answer":
        self._take_in(record)
      elif record.get("kind") == "failure":
        self.failures[record["key"]] = record["reason"]

  def _take_in(self, record: Record) -> None:
    key, tokens = record["key"], record["tokens"]
    if record["reservation"]:
      self.costs[record["reservation"]] = record["cost"]
    if record["cost"] is None and tokens:
      self.unpriced = (self.unpriced[0] + tokens[0], self.unpriced[1] + tokens[1])
    if record["fault"] and self.answered(key):
      return
    asked = (record["beta"], record["endpoint"])
    asked = self._asked.setdefault(asked, asked)
    tokens, seconds = tokens and tuple(tokens), record.get("seconds")
    self.kept[key] = Kept(record["fault"], tokens, record["bytes"], asked, self.log.place, seconds)
    self.failures.pop(key, None)

  def answered(self, key: str) -> bool:
    """Whether there is an answer that can be used."""
    return key in self.kept and not self.kept[key].fault

  def begin(self, asked: Mapping[str, Any], prompt: str) -> None:
    """Writes who asks what; `prompt` is one of those that will be sent."""
    self._append({"kind": "session", "by": f"{_user()}@{socket.gethostname()}", "asked": dict(asked), "prompt": prompt})

  def add(
    self, answers: Sequence[tuple[Claim, Answer, float | None]], failures: Sequence[tuple[Asked, str]] = ()
  ) -> None:
    """Keeps answers, with their costs where those were told, and why others did not come; all at once."""
    self._append(
      *(
        {
          "kind": "answer",
          **dataclasses.asdict(claim.asked),
          "text": answer.text,
          "finish": answer.finish,
          "fault": answer.fault,
          "tokens": answer.tokens,
          "cost": cost,
          "reservation": claim.reservation,
          **({} if answer.seconds is None else {"seconds": answer.seconds}),
        }
        for claim, answer, cost in answers
      ),
      *({"kind": "failure", "key": asked.key, "row": asked.row, "reason": reason} for asked, reason in failures),
    )

  @contextlib.contextmanager
  def looked_at(self) -> Iterator[None]:
    """For making files of what the store holds now, which other processes make too: one after another."""
    self.log.make_folder()
    with open(self.folder / "views.lock", "a") as file:
      fcntl.flock(file, fcntl.LOCK_EX)
      self.refresh()
      yield

  def text(self, key: str) -> str:
    """The text of an answer that is kept."""
    return self.log.at(self.kept[key].place)["text"]

  def export(self, file: pathlib.Path) -> int:
    """Writes every answer that is kept, and who asked; returns how many answers."""
    self.refresh()
    with writing(file) as out:
      for record in Records(self.folder, "answers").fresh():
        if record.get("kind") == "session":
          out.write(json.dumps(record, ensure_ascii=False) + "\n")
      for kept in self.kept.values():
        out.write(json.dumps(self.log.at(kept.place), ensure_ascii=False) + "\n")
    return len(self.kept)

  def take_over(self, file: pathlib.Path) -> int:
    """Adds the answers of an exported file that are not here, as bought elsewhere; returns how many.

    Raises:
      UserError: a line is none that a store exports.
    """
    fresh, count = list[Record](), 0
    for record in exported(file):
      if record["kind"] == "session":
        fresh.append(record)
      elif not self.answered(record["key"]):
        fresh.append(record | {"imported": True, "cost": 0.0, "reservation": ""})
        count += 1
      if len(fresh) == CHUNK:
        self._write(fresh)
        fresh = []
    self._write(fresh)
    return count

  def _append(self, *found: Record) -> None:
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    if found:
      self._write([{**record, "session": self.session, "time": now} for record in found])

  def _write(self, found: Sequence[Record]) -> None:
    with self.log.locked():
      self.log.append(found)
      self.refresh()


def exported(file: pathlib.Path) -> Iterator[Record]:
  """The sessions and answers of a file that `Store.export` wrote. Raises UserError where a line is neither."""
  for line, record in records(file):
    kind = record.get("kind")
    if kind != "session" and not (kind == "answer" and record.keys() >= EXPORTED and _is_whole(record)):
      raise UserError("is no answer of a store: give a file that `fiat annotate --export_to` wrote", file, line)
    yield record


def _is_whole(record: Record) -> bool:
  """Whether an answer holds what every command will read from it."""
  texts = all(isinstance(record[name], str) for name in ("key", "row", "beta", "endpoint", "text", "finish", "fault"))
  counts = [record["sample"], record["bytes"], *(record["tokens"] if isinstance(record["tokens"], list) else ())]
  pair = record["tokens"] is None or (isinstance(record["tokens"], list) and len(record["tokens"]) == 2)
  seconds = isinstance(record.get("seconds", 0.0), int | float)
  return texts and pair and seconds and all(type(count) is int and count >= 0 for count in counts)


def _user() -> str:
  try:
    return getpass.getuser()
  except (KeyError, OSError):  # a container's user without a name
    return "unknown"
