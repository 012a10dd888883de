"""The desk that deals requests out to whoever asks them, and takes in what comes back: store and ledger in step.

A request leaves only after its worst case is reserved. An answer is kept before anything else is done with it, then
its reservation is settled. So of a process that dies, nothing that had come is lost, and only what was under way is
asked again.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

from fiat_jax.reasoning.ledger import Ledger, Price
from fiat_jax.reasoning.request import Answer, Claim, Request
from fiat_jax.reasoning.store import Store


@dataclasses.dataclass(frozen=True, slots=True)
class Dealt(Claim):
  """A request that may be sent now."""

  request: Request


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
  """Why no answer came to a claim. `charged`: it may have been charged all the same. `refused`: the endpoint is there
  and does not take this request, as it may take others.
  """

  claim: Claim
  reason: str
  charged: bool
  refused: bool = False


class Desk:
  """Hands out the requests that are not answered yet, in order.

  Args:
    price: None where what is asked costs nothing, or nobody said what.
    requests: read when they are dealt out; they need not be in memory.
    keys: theirs.
    on_done: called as a request is answered, or given up.
    again: answers with a fault are asked for once more.

  Attributes:
    batches: those of the store.
    capped: the cap left no room for the next request.
    failed: requests that were given up in this command.
  """

  def __init__(
    self,
    store: Store,
    ledger: Ledger,
    price: Price | None,
    requests: Sequence[Request],
    keys: Sequence[str],
    on_done: Callable[[], None],
    *,
    again: bool = False,
  ):
    self._store, self._ledger, self._price, self._on_done = store, ledger, price, on_done
    self._requests, self._keys, self.batches = requests, keys, store.batches
    self._faults_before = frozenset(key for key, kept in store.kept.items() if kept.fault) if again else frozenset()
    self._stops = requests[0].asking.stops if len(requests) else ()
    self._own: dict[str, int] = {}
    for n, key in enumerate(keys):  # one that stands twice is asked once
      self._own.setdefault(key, n)
    left = [n for key, n in self._own.items() if self._open(key)]
    left.sort(key=lambda n: keys[n] in store.failures)  # what failed before comes last
    self._waiting = collections.deque(left)
    self._elsewhere: list[int] = []
    self._under_way: dict[str, int] = {}
    self.capped, self.failed = False, 0

  def __len__(self) -> int:
    """How many requests have no answer yet."""
    return len(self._waiting) + len(self._elsewhere) + len(self._under_way)

  @property
  def in_batches(self) -> bool:
    """Whether all that is left is in batches, which somebody has to collect."""
    left = bool(self._elsewhere) and not self._waiting
    return left and all(self._keys[n] in self.batches.of for n in self._elsewhere)

  def take(self, count: int) -> list[Dealt]:
    """Up to `count` requests to send now. None, while `len` is not 0: another process is at them, or the cap is."""
    self._store.refresh()
    if not self._waiting:
      self._waiting, self._elsewhere = collections.deque(self._elsewhere), []
    chosen: dict[str, int] = {}
    for _ in range(len(self._waiting)):
      if len(chosen) == count:
        break
      n = self._waiting.popleft()
      if self._free(n):
        chosen[self._keys[n]] = n
    requests = {key: self._requests[n] for key, n in chosen.items()}
    granted = self._ledger.reserve([(key, self.worst(request)) for key, request in requests.items()])
    self._elsewhere += [n for key, n in chosen.items() if key in granted.elsewhere]
    left = [n for key, n in chosen.items() if key not in granted.elsewhere and key not in granted.ids]
    self._waiting.extendleft(reversed(left))
    self.capped = granted.capped
    self._store.refresh()  # another process may have been answered, and have given its claim up, since the look above
    mine = {key: id for key, id in granted.ids.items() if self._free(chosen[key])}
    self._ledger.close_all(released=[id for key, id in granted.ids.items() if key not in mine])
    self._under_way |= {key: chosen[key] for key in mine}
    return [Dealt(requests[key].asked, id, requests[key]) for key, id in mine.items()]

  def worst(self, request: Request) -> float:
    """What a request may cost at the most, by the limits that it states."""
    return self._price.of(request.most_tokens) if self._price else 0.0

  def close(self, answers: Sequence[tuple[Claim, Answer]], failures: Sequence[Failure] = ()) -> None:
    """Answers came, or will not come: they are kept, all at once, then settled. What was kept before is left out."""
    fresh = [(c, self._cut(c, answer)) for c, answer in answers if c.reservation not in self._store.costs]
    costs = {claim.reservation: self._cost(claim, answer) for claim, answer in fresh}
    self._store.add(
      [(claim, answer, costs[claim.reservation]) for claim, answer in fresh],
      [(failure.claim.asked, failure.reason) for failure in failures],
    )
    self._ledger.close_all(
      settled={id: cost for id, cost in costs.items() if cost is not None},
      lost=[id for id, cost in costs.items() if cost is None] + [f.claim.reservation for f in failures if f.charged],
      released=[f.claim.reservation for f in failures if not f.charged],
    )
    self.failed += len(failures) + sum(bool(answer.fault) for _, answer in fresh)
    for claim in [*(claim for claim, _ in answers), *(failure.claim for failure in failures)]:
      if self._under_way.pop(claim.asked.key, None) is not None:
        self._on_done()

  def renewed(self, claim: Dealt) -> Dealt | None:
    """For another attempt after one that may have been charged; None where the cap leaves no room for it."""
    request, key = claim.request, claim.asked.key
    self._ledger.close_all(lost=[claim.reservation])
    granted = self._ledger.reserve([(key, self.worst(request))])
    if key in granted.ids:
      return Dealt(claim.asked, granted.ids[key], request)
    self._put_back(key)
    self.capped = granted.capped
    return None

  def unsent(self, claims: Sequence[Claim]) -> None:
    """They will not be asked after all, or not in this way: nothing is charged, and they are dealt out again."""
    self._ledger.close_all(released=[claim.reservation for claim in claims])
    for claim in reversed(claims):
      self._put_back(claim.asked.key)

  def _put_back(self, key: str) -> None:
    place = self._under_way.pop(key, None)
    if place is not None:
      self._waiting.appendleft(place)

  def _cut(self, claim: Claim, answer: Answer) -> Answer:
    """Where it is to end, if it is one of this command's."""
    return answer.ended_before(self._stops) if claim.asked.key in self._own else answer

  def _cost(self, claim: Claim, answer: Answer) -> float | None:
    """None where it was not told, or an endpoint's price was not."""
    if self._price is None:
      return None if claim.asked.endpoint else 0.0
    return self._price.of(answer.tokens) if answer.tokens else None

  def _free(self, place: int) -> bool:
    """Whether a request can be asked now; if not, it is seen to."""
    key = self._keys[place]
    if not self._open(key):  # another process was quicker
      self._on_done()
      return False
    if key in self.batches.of:
      self._elsewhere.append(place)
      return False
    return True

  def _open(self, key: str) -> bool:
    kept = self._store.kept.get(key)
    return kept is None or (bool(kept.fault) and key in self._faults_before)


def in_turn(langs: Mapping[str, str]) -> Iterable[str]:
  """Names by language, dealt one of each language after another: whatever is done at any time is balanced over them."""
  by_lang: dict[str, collections.deque[str]] = {}
  for name, lang in langs.items():
    by_lang.setdefault(lang, collections.deque()).append(name)
  while by_lang:
    for lang in sorted(by_lang):
      yield by_lang[lang].popleft()
      if not by_lang[lang]:
        del by_lang[lang]
