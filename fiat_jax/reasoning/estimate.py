"""What a command will cost before it is run: low, likely, and the cap that its limits set."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from fiat_jax.reasoning.ledger import Price
from fiat_jax.reasoning.request import Request
from fiat_jax.reasoning.store import Store

SHORT_ANSWER = 0.1  # of the limit, where nothing is known yet
LIKELY_ANSWER = 0.5
ENOUGH = 5  # answers of the same model that say more than such guesses


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Tokens (input, output) of all requests. `learned` is how many answers of the same model it goes by."""

  low: tuple[float, float]
  likely: tuple[float, float]
  cap: tuple[float, float]
  learned: int

  def lines(self, price: Price | None) -> list[str]:
    """One each, in tokens, and in money where the price is known."""
    lines = []
    for name in ("low", "likely", "cap"):
      tokens = getattr(self, name)
      money = f", {price.of(tokens):.4f}" if price else ""
      lines.append(f"{name + ':':<8} {tokens[0]:,.0f} tokens in, {tokens[1]:,.0f} out{money}")
    source = f"by {self.learned} answers that it gave" if self.learned >= ENOUGH else "guessed: --pilot 10 finds out"
    return [*lines, f"low and likely are {source}; the cap is what the limits allow"]


def estimate(requests: Sequence[Request], tokens: Sequence[int], store: Store | None) -> Estimate:
  """Of requests whose prompts have about so many tokens."""
  input_, most = sum(tokens), [request.most_tokens for request in requests]
  cap = (sum(pair[0] for pair in most), sum(pair[1] for pair in most))
  low, likely = (input_, SHORT_ANSWER * cap[1]), (input_, LIKELY_ANSWER * cap[1])
  seen = []
  if store and requests:
    asked = (requests[0].asking.beta, requests[0].asking.endpoint)
    seen = [kept for kept in store.kept.values() if kept.asked == asked and kept.tokens]
  if len(seen) >= ENOUGH:
    ratio = sum(k.tokens[0] for k in seen if k.tokens) / max(1, sum(k.bytes for k in seen))
    outputs = [k.tokens[1] for k in seen if k.tokens]
    input_ = ratio * sum(len(request.prompt.encode()) for request in requests)
    low = (input_, len(requests) * statistics.quantiles(outputs, n=10)[0])
    likely = (input_, len(requests) * statistics.fmean(outputs))
  return Estimate(low, likely, cap, len(seen))


def likely_tokens(text: str) -> int:
  """Of a tokenizer that is not known: a token for every four letters of ASCII, and for every other character."""
  plain = sum(character.isascii() for character in text)
  return plain // 4 + (len(text) - plain) + 8
