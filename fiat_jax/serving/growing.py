"""The text of an answer as it grows: what is shown is never taken back, and is no half of a character nor of a stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fiat_jax.decoding.request import Completion
from fiat_jax.serving.spelling import Spelling

UNFINISHED = "\ufffd"  # what a decoder writes for bytes that are no character, or none yet


@dataclasses.dataclass(frozen=True, kw_only=True)
class News:
  """What has come of an answer since the last news; `end` is the whole of it, once it has ended.

  A stop text may leave tokens out of the end that were news before.
  """

  tokens: Sequence[int]
  logprobs: Sequence[float]
  alternatives: Sequence[Sequence[tuple[int, float]]]
  end: Completion | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
  """A piece of an answer that may be shown: its text, and the tokens that begin in it with their log-probabilities.

  Attributes:
    offsets: where in the answer's text each token begins.
    finish: why the answer ended, in its last part.
  """

  text: str
  tokens: Sequence[int]
  logprobs: Sequence[float]
  alternatives: Sequence[Sequence[tuple[int, float]]]
  offsets: Sequence[int]
  finish: str | None


class Growing:
  """One answer.

  Args:
    spelling: of the model's tokens.
    stops: texts before which it ends.
    detailed: whether its tokens are asked for beside its text.
  """

  def __init__(self, spelling: Spelling, stops: Sequence[str], *, detailed: bool):
    self._spelling, self._stops, self._detailed = spelling, stops, detailed
    self._tokens: list[int] = []
    self._logprobs: list[float] = []
    self._alternatives: list[Sequence[tuple[int, float]]] = []
    self._begins = [0]  # where each token's text begins, and the next one's will
    self._shown = ""
    self._reported = 0

  def add(self, news: News) -> Part:
    """What may be shown now."""
    if self._detailed:
      self._logprobs += news.logprobs
      self._alternatives += news.alternatives
      for token in news.tokens:
        first = len(self._begins) == 1
        self._begins.append(self._begins[-1] + self._spelling.characters(token, first=first))
    self._tokens += news.tokens
    if news.end:
      del self._tokens[len(news.end.tokens) :]  # what a stop text left out
    text = self._whole(news.end) if news.end else self._settled()
    fresh = text[len(self._shown) :] if text.startswith(self._shown) else ""
    self._shown += fresh
    first, self._reported = self._reported, self._reportable(news.end is not None)
    places = slice(first, self._reported)
    return Part(
      text=fresh,
      tokens=self._tokens[places],
      logprobs=self._logprobs[places],
      alternatives=self._alternatives[places],
      offsets=self._begins[places],
      finish=news.end.finish if news.end else None,
    )

  def _whole(self, end: Completion) -> str:
    return self._decode(self._tokens) if end.text is None else end.text

  def _settled(self) -> str:
    """The text so far without what more tokens may change: half a character, the beginning of a stop text."""
    count = len(self._tokens)
    while count and self._joins(self._tokens[count - 1]):
      count -= 1
    text = self._decode(self._tokens[:count]).rstrip(UNFINISHED)
    begun = (length for stop in self._stops for length in range(1, len(stop)) if text.endswith(stop[:length]))
    return text[: len(text) - max(begun, default=0)]

  def _joins(self, token: int) -> bool:
    """Whether bytes before and after it may be one character: it is a byte itself, or has no text at all."""
    return self._spelling.is_byte(token) or self._spelling.tokenizer.is_control(token)

  def _reportable(self, ended: bool) -> int:
    """How many tokens have been shown; one without any text goes with the next, which a stop text may leave out."""
    if not self._detailed:
      return 0
    if ended:
      return len(self._tokens)
    count, shown = self._reported, len(self._shown)
    while count < len(self._tokens) and self._begins[count] < shown and self._begins[count + 1] <= shown:
      count += 1
    return count

  def _decode(self, tokens: Sequence[int]) -> str:
    return self._spelling.tokenizer.decode(tokens)
