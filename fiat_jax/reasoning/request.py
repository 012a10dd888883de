"""What is asked of a big model, and its key: the same key is never paid for twice.

The key is the SHA-256 of all that the answer depends on: prompt, model, endpoint, every sampling parameter, the number
of the sample, and the version of how prompts are rendered. Whose row it is asked for is no part of it.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
  from fiat_jax.reasoning.reasoner import Reasoner
  from fiat_jax.settings import Settings

VERSION = 1  # raise it when the same settings come to mean another prompt

Finish = Literal["stop", "length"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asking:
  """What all requests of one command have in common.

  Attributes:
    beta: the model's name; of a checkpoint, with the fingerprint of its weights.
    endpoint: where it is served; empty on this machine.
    template: `chat` or `plain`.
    length: the most tokens of an answer.
    temperature: 0 is greedy.
    stops: texts before which an answer ends.
  """

  beta: str
  endpoint: str
  template: str
  length: int
  temperature: float
  stops: tuple[str, ...] = ()

  @classmethod
  def of(cls, settings: Settings, reasoner: Reasoner) -> Asking:
    """What the settings say of asking this model."""
    return cls(
      beta=reasoner.name,
      endpoint=reasoner.endpoint,
      template=settings.beta_template,
      length=settings.reasoning_length,
      temperature=settings.temperature,
      stops=settings.reasoning_stops,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
  """What is kept of a request: its key, the row and the sample, whom it went to, and the bytes of its prompt."""

  key: str
  row: str
  sample: int
  beta: str
  endpoint: str
  bytes: int


@dataclasses.dataclass(frozen=True, slots=True)
class Claim:
  """A request that nobody else may send, and its reservation in the ledger."""

  asked: Asked
  reservation: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
  """One prompt for one sample. `row` is the key of the row's input; `head` is where in the prompt that begins."""

  asking: Asking
  prompt: str
  sample: int
  row: str
  lang: str
  head: int = 0

  @functools.cached_property
  def key(self) -> str:
    asking = dataclasses.asdict(self.asking)
    if not self.asking.stops:  # before there were any, keys had none
      del asking["stops"]
    return digest({"prompt": self.prompt, "sample": self.sample, "version": VERSION, **asking})

  @property
  def asked(self) -> Asked:
    return Asked(
      key=self.key,
      row=self.row,
      sample=self.sample,
      beta=self.asking.beta,
      endpoint=self.asking.endpoint,
      bytes=len(self.prompt.encode()),
    )

  @property
  def seed(self) -> int:
    """Of sampling on this machine: another for each request, the same whenever it is asked."""
    return int(self.key[:8], 16) >> 1

  @property
  def most_tokens(self) -> tuple[int, int]:
    """Input and output tokens at the most: a token is at least a byte; a chat format adds some around the prompt."""
    return len(self.prompt.encode()) + 64, self.asking.length


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
  """What came back. `tokens` are input and output as they are charged, thinking included; None: not told.

  `broken` says what was wrong with an answer that came and could not be read. `seconds` went by between the request and
  all of it, where it came alone.
  """

  text: str
  finish: str
  tokens: tuple[int, int] | None
  broken: str = ""
  seconds: float | None = None

  def ended_before(self, stops: Sequence[str]) -> Answer:
    """Cut before the first of these texts, where the model wrote past one."""
    places = [place for stop in stops if (place := self.text.find(stop)) >= 0]
    return dataclasses.replace(self, text=self.text[: min(places)], finish="stop") if places else self

  @property
  def fault(self) -> str:
    """Why it cannot be used; empty where it can."""
    if self.broken:
      return self.broken
    if self.finish == "length":
      return "cut off: it is longer than --reasoning_length"
    if self.finish != "stop":
      return f"not ended: the finish reason is {self.finish!r}"
    return "" if self.text.strip() else "empty"


def digest(parts: Any) -> str:
  """SHA-256 of canonical JSON."""
  text = json.dumps(parts, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
  return hashlib.sha256(text.encode()).hexdigest()
