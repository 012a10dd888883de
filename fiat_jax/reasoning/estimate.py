"""What a command will cost before it is run: low, likely, and the cap that its limits set."""

from __future__ import annotations

import dataclasses
import itertools
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from fiat_jax.reasoning.ledger import Price
from fiat_jax.reasoning.request import Request
from fiat_jax.reasoning.store import Store

if TYPE_CHECKING:
  from fiat_jax.reasoning.reasoner import Reasoner

SHORT_ANSWER = 0.1  # of the limit, where nothing is known yet
LIKELY_ANSWER = 0.5
CHUNK = 1024  # prompts in memory at a time
LONGEST_WORD = 24  # letters
PIECES = re.compile(r" ?(?P<word>[A-Za-z]+)|\s+|.", re.DOTALL)
ENOUGH = 5  # answers of the same model that say more than such guesses


@dataclasses.dataclass(frozen=True)
class Estimate:
  """Tokens (input, output) of so many requests. `learned` is how many answers of the same model it goes by."""

  requests: int
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


def estimate(
  requests: Iterable[Request], count: Callable[[Sequence[str]], Sequence[int]], store: Store | None
) -> Estimate:
  """Of requests, which are gone through once; `count` gives the tokens of prompts."""
  found = input_ = size = most_in = most_out = 0
  asked = None
  left = iter(requests)
  while chunk := list(itertools.islice(left, CHUNK)):
    asked = (chunk[0].asking.beta, chunk[0].asking.endpoint)
    found += len(chunk)
    input_ += sum(count([request.prompt for request in chunk]))
    size += sum(len(request.prompt.encode()) for request in chunk)
    most_in += sum(request.most_tokens[0] for request in chunk)
    most_out += sum(request.most_tokens[1] for request in chunk)
  low, likely = (input_, SHORT_ANSWER * most_out), (input_, LIKELY_ANSWER * most_out)
  kept = store.kept.values() if store else ()
  seen = [(k.tokens, k.bytes) for k in kept if k.asked == asked and k.tokens]
  if len(seen) >= ENOUGH:
    input_ = size * sum(tokens[0] for tokens, _ in seen) / max(1, sum(b for _, b in seen))
    outputs = [tokens[1] for tokens, _ in seen]
    low = (input_, found * statistics.quantiles(outputs, n=10)[0])
    likely = (input_, found * statistics.fmean(outputs))
  return Estimate(found, low, likely, (most_in, most_out), len(seen))


def likely_tokens(text: str) -> int:
  """Of a tokenizer that is not known: a token for every four letters of ASCII, and for every other character."""
  plain = sum(character.isascii() for character in text)
  return plain // 4 + (len(text) - plain) + 8


def ample_tokens(text: str) -> int:
  """The same, rather too many than too few: for whether a text fits.

  A token for every four letters of a word, with the space before it, or two in one too long to be a word; for every
  other character; and for a run of white space before another than a letter.
  """
  count = 8
  for piece in PIECES.finditer(text):
    letters = len(piece["word"] or "")
    count += -(-letters // (4 if letters <= LONGEST_WORD else 2)) if letters else 1
  return count


def room_taken(reasoner: Reasoner, prompts: Sequence[str]) -> list[int]:
  """The tokens of each prompt, for whether it fits into the model's context."""
  return [ample_tokens(prompt) for prompt in prompts] if reasoner.remote else reasoner.count(prompts)
