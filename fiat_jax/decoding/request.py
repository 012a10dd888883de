"""What the engine is asked for and what it answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from fiat_jax.decoding.sampling import GREEDY, Sampling

ALTERNATIVES = 20  # the most likely tokens that are reported at the most


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """A prompt's ids, how many new tokens at the most, how to choose them.

  Attributes:
    stops: texts before which the answer ends.
    alternatives: how many of the most likely tokens are reported beside each chosen one, at most `ALTERNATIVES`.
  """

  tokens: Sequence[int]
  max_new_tokens: int
  sampling: Sampling = GREEDY
  stops: Sequence[str] = ()
  alternatives: int = 0


@dataclasses.dataclass(kw_only=True)
class Completion:
  """New token ids without the end mark, and why they ended.

  Attributes:
    logprobs: of each of the tokens under the model, whatever the temperature.
    logprob: summed over all that was chosen, the end mark too.
    alternatives: the most likely tokens at each place with their log-probabilities, where they were asked for.
    text: what stands before a stop text, where one of the request's ended it.
  """

  tokens: list[int] = dataclasses.field(default_factory=list)
  logprobs: list[float] = dataclasses.field(default_factory=list)
  logprob: float = 0.0
  alternatives: list[list[tuple[int, float]]] = dataclasses.field(default_factory=list)
  text: str | None = None
  finish: Literal["stop", "length"] = "length"

  def end_before(self, stops: Sequence[str], decode: Callable[[Sequence[int]], str]) -> bool:
    """Cuts it before the first of the stop texts, after the token that reaches there; false where none stands in it."""
    text = decode(self.tokens)
    places = [place for place in map(text.find, stops) if place >= 0]
    if not places:
      return False
    self.text, self.finish = text[: min(places)], "stop"
    kept = next(n for n in range(len(self.tokens) + 1) if decode(self.tokens[:n]).startswith(self.text))
    del self.tokens[kept:], self.logprobs[kept:], self.alternatives[kept:]
    self.logprob = sum(self.logprobs)
    return True
