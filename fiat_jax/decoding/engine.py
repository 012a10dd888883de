"""The engine that decodes everything: requests over slots that share one static cache.

What a prompt leaves in the cache and how a step reads it is the model family's (`family.py`); the programs are in
`slots.py`. A `Session` is a set of slots in which requests come and go.

For a fixed number of slots and room, a request gets the same tokens whatever its slot, order and neighbours: rows do
not mix, and the length that a prompt is padded to follows from the prompt alone. A prompt that stands in a slot already
is copied, not computed again; every other is prefilled by itself, since a product's last bits depend on how many rows
it has. On a CPU four prompts of some 100 tokens a call would take 4 to 10 % off the time, and long ones none.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fiat_jax.decoding import slots as device
from fiat_jax.decoding.family import Start, family_of, virtual
from fiat_jax.decoding.request import Completion, Request
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.t5 import T5


class Lengths(NamedTuple):
  """The most tokens of any request: of its prompt, of prompt and answer, of its answer."""

  prompt: int
  whole: int
  new: int

  @classmethod
  def of(cls, requests: Sequence[Request]) -> Lengths:
    return cls(
      max(len(r.tokens) for r in requests),
      max(len(r.tokens) + r.max_new_tokens for r in requests),
      max(r.max_new_tokens for r in requests),
    )

  def exceeded_by(self, request: Request) -> str:
    """What of a request is longer; empty: nothing."""
    asked = zip(("prompt", "prompt and answer", "answer"), Lengths.of([request]), self, strict=True)
    return "; ".join(f"{what} of {count} tokens, where {most} fit" for what, count, most in asked if count > most)


class Engine:
  """Decodes requests with one model.

  Args:
    model: the module, of either family.
    weights: unstacked (`decoder.unstack`, `t5_cached.unstack`).
    stop_ids: tokens that end a completion.
    slots: requests decoded side by side.
    decode: text of ids, for requests with stop texts.
  """

  def __init__(
    self,
    model: Decoder | T5,
    weights: Mapping[str, Any],
    *,
    stop_ids: Sequence[int],
    slots: int = 16,
    decode: Callable[[Sequence[int]], str] | None = None,
  ):
    self.model, self.weights, self.slots = model, weights, slots
    self.family, self.stop_ids, self._decode = family_of(model), frozenset(stop_ids), decode
    self._shared: tuple[tuple[int, ...], Any] = (), None
    self.virtual = virtual(weights)

  def prompted(self, request: Request) -> Request:
    """The request behind the soft prompt, where there is one."""
    return dataclasses.replace(request, tokens=[*self.virtual, *request.tokens]) if self.virtual else request

  def text(self, ids: Sequence[int]) -> str:
    """The text of ids. Raises ValueError where the engine was given no way to decode."""
    if self._decode is None:
      raise ValueError("requests with stop texts need an engine that was given `decode`")
    return self._decode(ids)

  def prefix(self, tokens: Sequence[int]) -> Any:
    """What the family keeps of tokens that many requests begin with, or None; the last one is remembered."""
    if tuple(tokens) != self._shared[0]:
      self._shared = (), None  # its memory first
      self._shared = tuple(tokens), self.family.share(self.weights, tokens)
    return self._shared[1]

  def generate(
    self, requests: Sequence[Request], on_done: Callable[[int, Completion], None] | None = None, *, shared: int = 0
  ) -> list[Completion]:
    """Completions in the order of the requests, which are begun as `_order` says.

    Args:
      on_done: called with a request's number and completion as it ends.
      shared: this many first tokens are the same in all requests, and not the whole of any: they are computed once.
    """
    done = [Completion() for _ in requests]
    if not requests:
      return done
    session = Session(self, Lengths.of(requests), requests[0].tokens[:shared])
    numbers = {session.add(requests[n]): n for n in _order(requests)}
    while session:
      for number, completion in session.advance():
        done[numbers[number]] = completion
        if on_done:
          on_done(numbers[number], completion)
    return done


class Session:
  """Requests that are decoded side by side: each joins when a slot is free and leaves when it ends.

  Args:
    engine: the model.
    lengths: the most that any request will have.
    shared: tokens that every request begins with, computed once; none is the whole of a request.
  """

  def __init__(self, engine: Engine, lengths: Lengths, shared: Sequence[int] = ()):
    self._engine, family, more = engine, engine.family, len(engine.virtual)
    self.lengths = lengths  # what stands before every prompt not counted in
    lengths = Lengths(lengths.prompt + more, lengths.whole + more, lengths.new)
    shared = [*engine.virtual, *shared]
    self._prefix = engine.prefix(shared) if shared else None
    self._shared = 0 if self._prefix is None else len(shared)
    room = family.room(lengths.prompt - self._shared, lengths.whole - self._shared, lengths.new)
    self._state = device.empty_slots(family, engine.slots, room)
    self._stop = np.asarray(sorted(engine.stop_ids) or [-1], np.int32)
    self._requests: dict[int, Request] = {}
    self._completions: dict[int, Completion] = {}
    self._waiting: collections.deque[int] = collections.deque()
    self._busy: dict[int, int] = {}  # slot: request
    self._holds: dict[int, tuple[int, ...]] = {}  # slot: the prompt whose cache stands there, ended or not
    self._count = 0

  def __len__(self) -> int:
    """How many requests wait or are decoded."""
    return len(self._requests)

  @property
  def engine(self) -> Engine:
    return self._engine

  @property
  def free(self) -> int:
    """How many slots stand idle."""
    return self._engine.slots - len(self._busy)

  def add(self, request: Request) -> int:
    """Lets a request join behind those that wait; returns its number.

    Raises:
      ValueError: it is longer than the session's lengths: the cache would hold a part of it.
    """
    if too_long := self.lengths.exceeded_by(request):
      raise ValueError(f"a request is longer than its session: {too_long}")
    number = self._count = self._count + 1
    self._requests[number], self._completions[number] = self._engine.prompted(request), Completion()
    self._waiting.append(number)
    return number

  def drop(self, number: int) -> None:
    """Forgets a request that nobody waits for any more; its slot is free at once."""
    self._forget(number)
    if number in self._waiting:
      self._waiting.remove(number)
    self._busy = {slot: n for slot, n in self._busy.items() if n != number}

  def answer(self, number: int) -> Completion:
    """What there is of a request's answer so far."""
    return self._completions[number]

  def advance(self) -> list[tuple[int, Completion]]:
    """Fills free slots and decodes some steps; returns the requests that ended, with their completions."""
    self._fill()
    engine, requests = self._engine, [self._requests[n] for n in self._busy.values()]
    sampled = any(r.sampling.temperature > 0 for r in requests)
    alternatives = any(r.alternatives for r in requests)
    kept = np.isin(np.arange(engine.slots), list(self._busy))
    self._state, chosen = device.decode(
      engine.family, engine.weights, self._state, kept, self._stop, self._prefix, sampled, alternatives
    )
    chosen, left = jax.device_get((chosen, self._state.left))
    ended = []
    for slot, number in list(self._busy.items()):
      cut = self._collect(number, jax.tree.map(lambda leaf, slot=slot: leaf[slot], chosen))
      if cut or left[slot] == 0:
        ended.append((number, self._completions[number]))
        del self._busy[slot]
        self._forget(number)
    return ended

  def _forget(self, number: int) -> None:
    del self._requests[number], self._completions[number]

  def _fill(self) -> None:
    """Gives free slots to those that wait. A new prompt is computed; one that stands in a slot is copied from there."""
    family, held = self._engine.family, {ids: slot for slot, ids in self._holds.items()}
    free = [slot for slot in range(self._engine.slots) if slot not in self._busy]
    fresh: dict[tuple[int, ...], int] = {}
    starts: dict[int, Start] = {}
    early, late = {}, {}  # slot: slot that it copies, which stood there before or is computed now
    while free and self._waiting:
      number = self._waiting.popleft()
      start = family.start(self._requests[number].tokens, self._shared)
      ids = tuple(start.ids)
      slot = held[ids] if held.get(ids) in free else free[0]
      if ids in held:
        early[slot] = held[ids]
      elif ids in fresh:
        late[slot] = fresh[ids]
      else:
        fresh[ids] = slot
      free.remove(slot)
      self._busy[slot], self._holds[slot], starts[slot] = number, ids, start
    self._copy(early, starts)
    for ids, slot in fresh.items():
      new = self._joining([slot], starts)
      self._state = device.prefill(family, self._engine.weights, self._state, device.padded(ids), new, self._prefix)
    self._copy(late, starts)

  def _copy(self, sources: Mapping[int, int], starts: Mapping[int, Start]) -> None:
    """All at once, so that none reads what another writes; filled up to a power of two with the first again."""
    if not sources:
      return
    slots = list(sources)
    slots += slots[:1] * ((1 << (len(slots) - 1).bit_length()) - len(slots))
    read = np.asarray([sources[slot] for slot in slots], np.int32)
    self._state = device.copy(self._state, read, self._joining(slots, starts))

  def _joining(self, slots: Sequence[int], starts: Mapping[int, Start]) -> device.Joining:
    requests = [self._requests[self._busy[slot]] for slot in slots]
    return device.joining(slots, [starts[slot] for slot in slots], requests)

  def _collect(self, number: int, chosen: device.Chosen) -> bool:
    """Adds what a slot chose to its request's answer; true where a stop text ended it."""
    request, answer = self._requests[number], self._completions[number]
    for token, logprob, ids, others in zip(*chosen, strict=True):
      if token < 0:
        break
      answer.logprob += float(logprob)
      if token in self._engine.stop_ids:
        answer.finish = "stop"
        break
      answer.tokens.append(int(token))
      answer.logprobs.append(float(logprob))
      if request.alternatives:
        pairs = zip(ids.tolist(), others.tolist(), strict=True)
        answer.alternatives.append(list(pairs)[: request.alternatives])
    return bool(request.stops) and answer.end_before(request.stops, self._engine.text)


def _order(requests: Sequence[Request]) -> list[int]:
  """Longest answers first, so that few end alone; requests with one prompt behind one another, so that it is kept."""
  prompts = [tuple(r.tokens) for r in requests]
  longest: dict[tuple[int, ...], int] = {}
  for prompt, request in zip(prompts, requests, strict=True):
    longest[prompt] = max(longest.get(prompt, 0), request.max_new_tokens)
  return sorted(range(len(requests)), key=lambda n: (-longest[prompts[n]], -len(prompts[n]), prompts[n]))
