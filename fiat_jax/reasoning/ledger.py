"""The ledger beside a store: what was spent on it, by whatever command, and what may be spent yet.

Before a request leaves, its worst case is reserved; when its answer has been kept, the reservation is settled at what
the reported tokens cost. Records, in `ledger-NNNNN.jsonl`: `reserve`, then one of `settle`, `release` (the endpoint
refused it: nothing is charged) and `lose` (no telling: a time-out). What is lost, or was reserved by a process that
died, counts as spent in full for ever, so that a cap holds whatever happens.

A reservation is a claim, too: while its process lives, no other asks the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import math
import os
import pathlib
from collections.abc import Mapping, Sequence

from fiat_jax.errors import UserError
from fiat_jax.reasoning.records import Record, Records

MILLION = 1e6
MARGIN = 2.0  # endpoints have reported more tokens than they were allowed: twice the worst case is held back
RAISED = 1.5  # and where one has, so much more than the worst that was seen
FREE_BYTES = 32 * 2**20  # with less room on the disk nothing is asked: the answer might not be kept


@dataclasses.dataclass(frozen=True)
class Price:
  """Money a million tokens."""

  input: float
  output: float

  @classmethod
  def parse(cls, text: str) -> Price:
    try:
      price = cls(*(float(part) for part in text.split(",")))
    except (ValueError, TypeError):
      price = cls(math.nan, math.nan)
    if not (0 <= price.input < math.inf and 0 <= price.output < math.inf):
      raise UserError(f"--price {text!r}: give what a million tokens of input and of output cost, as in 0.15,0.60")
    return price

  def of(self, tokens: tuple[float, float]) -> float:
    return (tokens[0] * self.input + tokens[1] * self.output) / MILLION


@dataclasses.dataclass(frozen=True)
class Held:
  """An open reservation: who made it, for which request, the worst case, and what is held back for it."""

  session: str
  key: str
  worst: float
  amount: float


@dataclasses.dataclass(frozen=True)
class Granted:
  """What `reserve` gave: reservations by key, the keys that another process is at, and whether the cap stopped it."""

  ids: Mapping[str, str]
  elsewhere: frozenset[str]
  capped: bool


class Ledger:
  """What was spent. Figures are in the money of the price.

  Attributes:
    settled: what answers came to.
    lost: what may have been charged for requests without an answer; at the most.
  """

  def __init__(self, folder: pathlib.Path, session: str, cap: float, unpriced: float = 0.0):
    """`unpriced`: what answers cost, by today's price, that were bought before one was known."""
    self.log, self.session, self.cap, self._unpriced = Records(folder, "ledger"), session, cap, unpriced
    self.settled = self.lost = 0.0
    self._worst_ratio, self._count = 1.0, 0
    self._open: dict[str, Held] = {}
    self._sessions = folder / "sessions"
    self.log.make_folder()
    self._sessions.mkdir(exist_ok=True)
    self._alive = open(self._sessions / session, "a")  # noqa: SIM115  open, and locked, while this process lives
    fcntl.flock(self._alive, fcntl.LOCK_EX)
    self.refresh()

  def close(self) -> None:
    """What this process has not settled is free to be asked by others from now on."""
    self.log.drop_ballast()
    with contextlib.suppress(OSError):
      os.unlink(self._alive.name)
    self._alive.close()

  @property
  def spent(self) -> float:
    """All that counts as spent: settled, lost, and reserved."""
    return self._unpriced + self.settled + self.lost + sum(held.amount for held in self._open.values())

  @property
  def unsettled(self) -> float:
    """What counts as spent and may not have been: lost, or reserved by who has died."""
    return self.lost + sum(held.amount for held in self._open.values())

  def refresh(self) -> None:
    """Takes in what other processes have added."""
    for record in self.log.fresh():
      self._take_in(record)

  def reconcile(self, costs: Mapping[str, float | None]) -> None:
    """Settles what was answered and kept just before its process died.

    Args:
      costs: of reservations by the store; None where the answer came without.
    """
    with self.log.locked():
      self.refresh()
      living = self._living()
      done = [id for id, held in self._open.items() if id in costs and held.session not in living]
      told = {id: cost for id in done if (cost := costs[id]) is not None}
      self._append_closed(told, [id for id in done if id not in told], [])

  def reserve(self, worst: Sequence[tuple[str, float]]) -> Granted:
    """Reserves for requests, keys with what each costs at the worst, as many as the cap allows, in order."""
    with self.log.locked():
      self.refresh()
      self._require_room()
      living = self._living()
      claimed = {held.key for held in self._open.values() if held.session in living}
      elsewhere = {key for key, _ in worst if key in claimed}
      spent, records, capped = self.spent, list[Record](), False
      for key, cost in worst:
        amount = cost * max(MARGIN, RAISED * self._worst_ratio)
        if key in elsewhere:
          continue
        if self.cap and spent + amount > self.cap:
          capped = True
          break
        spent += amount
        self._count += 1
        id = f"{self.session}-{self._count}"
        records.append({"kind": "reserve", "id": id, "key": key, "worst": cost, "amount": amount})
      if records:
        self.log.append({**record, "session": self.session} for record in records)
        self.refresh()
    return Granted({record["key"]: record["id"] for record in records}, frozenset(elsewhere), capped)

  def close_all(
    self,
    *,
    settled: Mapping[str, float] | None = None,
    lost: Sequence[str] = (),
    released: Sequence[str] = (),
  ) -> None:
    """Closes reservations, all at once.

    Args:
      settled: what each cost whose answer came and was kept.
      lost: there is no telling what these cost.
      released: these were refused, or never left.
    """
    with self.log.locked():
      self._append_closed(settled or {}, lost, released)

  def _append_closed(self, settled: Mapping[str, float], lost: Sequence[str], released: Sequence[str]) -> None:
    records: list[Record] = [{"kind": "settle", "id": id, "cost": cost} for id, cost in settled.items()]
    records += [{"kind": "lose", "id": id} for id in lost]
    records += [{"kind": "release", "id": id} for id in released]
    if records:
      self.log.append(records)
    self.refresh()

  def _take_in(self, record: Record) -> None:
    kind, id = record.get("kind"), record["id"]
    if kind == "reserve":
      self._open[id] = Held(record["session"], record["key"], record["worst"], record["amount"])
      return
    held = self._open.pop(id, None)
    if held is None:  # two processes may have closed it, after a third had died
      return
    if kind == "settle":
      self.settled += record["cost"]
      if held.worst:
        self._worst_ratio = max(self._worst_ratio, record["cost"] / held.worst)
    elif kind == "lose":
      self.lost += held.amount

  def _living(self) -> set[str]:
    """Sessions with open reservations whose processes live."""
    return {session for session in {held.session for held in self._open.values()} if self._lives(session)}

  def _lives(self, session: str) -> bool:
    if session == self.session:
      return True
    try:
      with open(self._sessions / session) as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
      return True
    except FileNotFoundError:
      return False
    return False

  def _require_room(self) -> None:
    """What comes back can be kept even if the disk fills up meanwhile."""
    free = os.statvfs(self.log.folder)
    try:
      if free.f_bavail * free.f_frsize < FREE_BYTES:
        raise OSError(errno.ENOSPC, "no room")
      self.log.hold_ballast()
    except OSError:
      raise UserError(
        "the disk is full: nothing more is asked before there is room for the answers", self.log.folder
      ) from None
