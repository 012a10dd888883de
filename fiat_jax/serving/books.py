"""What a deployment's big model costs: booked in its store's ledger, as other verbs do, and in one of each day."""

from __future__ import annotations

import datetime

from fiat_jax.reasoning.ledger import Ledger
from fiat_jax.reasoning.store import Store


class Full(Exception):
  """Which limit leaves no room for a request."""


class Elsewhere(Exception):
  """Another process, or another task of this one, is asking the same."""


class Books:
  """The ledgers of a store and of the day, in step: a request is reserved on both, or on neither.

  Args:
    store: whose answers settle what a process that died had not settled.
    most: that may be spent on the store by all commands together; 0: any amount.
    most_a_day: that may be spent a day, of UTC; 0: any amount, and days are not kept.
    unpriced: as of `Ledger`.
  """

  def __init__(self, store: Store, most: float, most_a_day: float, unpriced: float = 0.0):
    self._folder, self._session, self._most, self._most_a_day = store.folder, store.session, most, most_a_day
    self._whole = Ledger(store.folder, store.session, most, unpriced)
    self._whole.reconcile(store.costs)
    self._day, self._todays = "", None
    self._of_days: dict[str, tuple[Ledger, str]] = {}  # by a reservation of the store's: the day's and its name there

  def reserve(self, key: str, worst: float) -> str:
    """Reserves the worst case of a request; gives the reservation's id.

    Raises:
      Full: a limit leaves no room.
      Elsewhere: somebody is at it.
      UserError: the disk leaves none.
    """
    granted = self._whole.reserve([(key, worst)])
    if key in granted.elsewhere:
      raise Elsewhere
    id = granted.ids.get(key, "")
    if not id:
      raise Full(f"--max_cost {self._most:g} over {self._folder} leaves no room for a request")
    if not self._most_a_day:
      return id
    try:
      ledger = self._of_today()
      of_day = ledger.reserve([(key, worst)]).ids.get(key, "")
    except Exception:
      self._whole.close_all(released=[id])
      raise
    if not of_day:
      self._whole.close_all(released=[id])
      raise Full(f"the day's limit of {self._most_a_day:g} leaves no room for a request")
    self._of_days[id] = ledger, of_day
    return id

  def settle(self, id: str, cost: float | None) -> None:
    """An answer came and was kept; None: it may cost anything up to the worst case."""
    for ledger, name in self._held(id):
      ledger.close_all(settled={} if cost is None else {name: cost}, lost=[name] if cost is None else ())

  def release(self, id: str) -> None:
    """Nothing is charged."""
    for ledger, name in self._held(id):
      ledger.close_all(released=[name])

  def _held(self, id: str) -> list[tuple[Ledger, str]]:
    of_day = self._of_days.pop(id, None)
    return [*([of_day] if of_day else []), (self._whole, id)]

  def _of_today(self) -> Ledger:
    """The ledger of the day; one that was open at midnight is still told what it holds has come to."""
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    if self._todays is None or day != self._day:
      if self._todays:
        self._todays.close()
      folder = self._folder / "days" / day
      folder.mkdir(parents=True, exist_ok=True)
      self._day, self._todays = day, Ledger(folder, self._session, self._most_a_day)
    return self._todays

  def close(self) -> None:
    """What is not settled counts as spent from now on."""
    for ledger in filter(None, (self._whole, self._todays)):
      ledger.close()
