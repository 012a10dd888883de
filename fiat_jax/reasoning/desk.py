"""The desk that deals requests out to whoever asks them, and takes in what comes back: store and ledger in step.

A request leaves only after its worst case is reserved. An answer is kept before anything else is done with it, then
its reservation is settled. So of a process that dies, nothing that had come is lost, and only what was under way is
asked again.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence

from fiat_jax.reasoning.ledger import Ledger, Price
from fiat_jax.reasoning.request import Answer, Request
from fiat_jax.reasoning.store import Store


@dataclasses.dataclass(frozen=True)
class Claim:
  """A request that may be sent now, and its reservation."""

  request: Request
  reservation: str


class Desk:
  """Hands out the requests that are not answered yet, in order.

  Args:
    price: None where what is asked costs nothing.
    on_done: called with each request that is answered, or given up.
    again: answers with a fault are asked for once more.

  Attributes:
    capped: the cap left no room for the next request.
    failed: requests that were given up in this command.
  """

  def __init__(
    self,
    store: Store,
    ledger: Ledger,
    price: Price | None,
    requests: Sequence[Request],
    on_done: Callable[[Request], None],
    *,
    again: bool = False,
  ):
    self._store, self._ledger, self._price, self._on_done = store, ledger, price, on_done
    self._faults_before = frozenset(store.kept) if again else frozenset()
    self._waiting = collections.deque(request for request in requests if self._open(request))
    self._elsewhere: list[Request] = []
    self._under_way: dict[str, Request] = {}
    self.capped, self.failed = False, 0

  def __len__(self) -> int:
    """How many requests have no answer yet."""
    return len(self._waiting) + len(self._elsewhere) + len(self._under_way)

  def take(self, count: int) -> list[Claim]:
    """Up to `count` requests to send now. None, while `len` is not 0: another process is at them, or the cap is."""
    self._store.refresh()
    if not self._waiting:
      self._waiting.extend(request for request in self._elsewhere if self._open(request))
      self._elsewhere = []
    chosen: list[Request] = []
    while self._waiting and len(chosen) < count:
      if self._open(request := self._waiting.popleft()):
        chosen.append(request)
      else:  # another process was quicker
        self._on_done(request)
    granted = self._ledger.reserve([(request.key, self.worst(request)) for request in chosen])
    self._elsewhere += [request for request in chosen if request.key in granted.elsewhere]
    left = [r for r in chosen if r.key not in granted.elsewhere and r.key not in granted.ids]
    self._waiting.extendleft(reversed(left))
    self.capped = granted.capped
    claims = [Claim(request, granted.ids[request.key]) for request in chosen if request.key in granted.ids]
    self._under_way |= {claim.request.key: claim.request for claim in claims}
    return claims

  def worst(self, request: Request) -> float:
    """What a request may cost at the most, by the limits that it states."""
    return self._price.of(request.most_tokens) if self._price else 0.0

  def answered(self, claim: Claim, answer: Answer) -> None:
    """An answer came."""
    free = self._price is None
    cost = 0.0 if free else self._price.of(answer.tokens) if self._price and answer.tokens else None
    self._store.answer(claim.request, answer, cost, claim.reservation)
    if cost is None:
      self._ledger.lose(claim.reservation)
    else:
      self._ledger.settle(claim.reservation, cost)
    self._done(claim, failed=bool(answer.fault))

  def renewed(self, claim: Claim) -> Claim | None:
    """For another attempt after one that may have been charged; None where the cap leaves no room for it."""
    self._ledger.lose(claim.reservation)
    request = claim.request
    granted = self._ledger.reserve([(request.key, self.worst(request))])
    if request.key in granted.ids:
      return Claim(request, granted.ids[request.key])
    self._put_back(request, capped=granted.capped)
    return None

  def unsent(self, claim: Claim) -> None:
    """It will not be asked after all: the command stops."""
    self._ledger.release(claim.reservation)
    self._put_back(claim.request, capped=self.capped)

  def _put_back(self, request: Request, *, capped: bool) -> None:
    self._under_way.pop(request.key, None)
    self._waiting.appendleft(request)
    self.capped = capped

  def given_up(self, claim: Claim, reason: str, *, charged: bool) -> None:
    """No answer came and none is waited for."""
    self._store.failure(claim.request, reason)
    (self._ledger.lose if charged else self._ledger.release)(claim.reservation)
    self._done(claim, failed=True)

  def _done(self, claim: Claim, *, failed: bool) -> None:
    self.failed += failed
    self._under_way.pop(claim.request.key, None)
    self._on_done(claim.request)

  def _open(self, request: Request) -> bool:
    kept = self._store.kept.get(request.key)
    return kept is None or (bool(kept.fault) and request.key in self._faults_before)


def in_turn(requests: Iterable[Request]) -> list[Request]:
  """One of each language after another, so that whatever is done at any time is balanced over them."""
  by_lang: dict[str, collections.deque[Request]] = {}
  for request in requests:
    by_lang.setdefault(request.lang, collections.deque()).append(request)
  dealt = []
  while by_lang:
    for lang in sorted(by_lang):
      dealt.append(by_lang[lang].popleft())
      if not by_lang[lang]:
        del by_lang[lang]
  return dealt
