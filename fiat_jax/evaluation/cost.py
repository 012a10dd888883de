"""What 1,000 answers of a recipe take, which of several recipes are the cheapest, and that in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

NEAR = 1.25  # times the least seconds: within that recipes take the same, for what else a machine does moves seconds


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
  """Per 1,000 answers on test.

  Attributes:
    asks_beta: each takes an answer of the big model.
    tunes: it is tuned first; beside an answer of the big model that does not count.
    money: None: not known.
    seconds: None: not measured.
    beta_seconds: the big model's among them; None: not known, or none.
    lacks_beta: they are the tuned model's alone, though it reads what the big one writes.
    adds: a second model reads each answer of the big one, and gives its own.
  """

  asks_beta: bool
  tunes: bool
  money: float | None = None
  seconds: float | None = None
  beta_seconds: float | None = None
  lacks_beta: bool = False
  adds: bool = False

  @property
  def whole_seconds(self) -> float | None:
    return None if self.lacks_beta else self.seconds

  def words(self) -> str:
    """One sentence."""
    if self.asks_beta and self.money is None:
      parts = ["1,000 of the big model (at a price not known here)"]
    else:
      parts = [f"{self.money:.3g} in money for the big model" if self.money else "no money"]
    if self.seconds is not None:
      beside = " of the tuned model (the big one's are not counted)" if self.lacks_beta else ""
      if self.beta_seconds is not None:
        every = self.beta_seconds >= self.seconds
        beside = f" ({'all' if every else format(self.beta_seconds, ',.0f')} of them the big model's)"
      parts.append(f"{self.seconds:,.0f} seconds{beside}")
    return f"Per 1,000 answers it takes {' and '.join(parts)}."


def cheapest(costs: Mapping[str, Cost]) -> set[str]:
  """Those than which none is cheaper: by money, then by seconds, each where it is known of all that are left, then by
  what they need."""
  left = dict(costs)
  money = {name: cost.money for name, cost in left.items() if cost.money is not None}
  if len(money) == len(left):
    left = {name: left[name] for name, of in money.items() if of <= min(money.values()) * (1 + 1e-9)}
  else:
    left = {name: cost for name, cost in left.items() if not cost.asks_beta} or left
  seconds = {name: cost.whole_seconds for name, cost in left.items() if cost.whole_seconds is not None}
  if len(seconds) == len(left):
    left = {name: left[name] for name, of in seconds.items() if of <= min(seconds.values()) * NEAR}
  needs = {name: (cost.asks_beta, cost.tunes, cost.adds) for name, cost in left.items()}
  return {name for name, of in needs.items() if of == min(needs.values())}
