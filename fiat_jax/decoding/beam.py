"""Beam search: some ways of going on with each prompt side by side, and the best of those that ended.

The rules are those of transformers' `generate(num_beams=k, do_sample=False)`. Of the continuations of all k beams the
(1 + stop ids) · k likeliest are looked at, at least 2k. Those among the first k that end become answers, of which the k
best are kept; the k likeliest that do not end are the beams of the next step. The programs are in `beam_rows.py`.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from fiat_jax.decoding import beam_rows as device
from fiat_jax.decoding.beam_rows import Paths, Rules
from fiat_jax.decoding.engine import Engine, Lengths
from fiat_jax.decoding.request import Completion, Request
from fiat_jax.decoding.slots import padded
from fiat_jax.errors import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class Beams:
  """How to search.

  Attributes:
    count: beams a prompt, and the most answers that it gets.
    length_penalty: an answer's score is its log-probability by its tokens, end mark counted in, to this power.
    early_stopping: a prompt is done once it has `count` answers; without it, only once the likeliest beam would, if it
      ended at its present length, be no better than the worst of them.
  """

  count: int
  length_penalty: float = 1.0
  early_stopping: bool = False

  def __post_init__(self):
    if self.count < 1:
      raise UserError(f"{self.count} beams: give 1 or more")


class Hypothesis(NamedTuple):
  """An answer that the search found, and its score."""

  score: float
  completion: Completion


def search(
  engine: Engine,
  requests: Sequence[Request],
  beams: Beams,
  on_done: Callable[[int, list[Hypothesis]], None] | None = None,
  *,
  shared: int = 0,
) -> list[list[Hypothesis]]:
  """Each request's answers, at most `count`, the best first; requests are begun longest first.

  The beams of so many requests as the engine has slots for are decoded side by side, of one at the least.

  Args:
    on_done: called with a request's number and answers as it ends.
    shared: as in `Engine.generate`.

  Raises:
    UserError: a request wants to be sampled, to end before a text, or to see alternatives.
  """
  for request in requests:
    _check(request, beams)
  done: list[list[Hypothesis]] = [[] for _ in requests]
  if not requests:
    return done
  requests, shared = [engine.prompted(request) for request in requests], shared + len(engine.virtual)
  family, lengths = engine.family, Lengths.of(requests)
  prefix = engine.prefix(requests[0].tokens[:shared]) if shared else None
  before = 0 if prefix is None else shared
  room = family.room(lengths.prompt - before, lengths.whole - before, lengths.new)
  rows = max(1, engine.slots // beams.count)
  state = device.empty_rows(family, rows, beams.count, room, lengths.new)
  stop = np.asarray(sorted(engine.stop_ids) or [-1], np.int32)
  rules, penalty = Rules(family, beams.early_stopping), np.float32(beams.length_penalty)
  waiting = collections.deque(sorted(range(len(requests)), key=lambda n: -len(requests[n].tokens)))
  busy: dict[int, int] = {}  # row: request
  while waiting or busy:
    joining = {row: waiting.popleft() for row in range(rows) if row not in busy and waiting}
    starts = {row: family.start(requests[n].tokens, before) for row, n in joining.items()}
    for row, start in starts.items():
      new = device.joining([row], [start], [requests[joining[row]]])
      state = device.join(rules, engine.weights, state, padded(start.ids), new, prefix)
    busy |= joining
    state = device.advance(rules, engine.weights, state, stop, prefix, penalty)
    ended = [row for row, is_open in enumerate(np.asarray(state.open)) if row in busy and not is_open]
    answers: Any = jax.device_get(state.ended) if ended else None
    for row in ended:
      number = busy.pop(row)
      done[number] = _hypotheses(jax.tree.map(lambda leaf, row=row: leaf[row], answers), engine.stop_ids)
      if on_done:
        on_done(number, done[number])
  return done


def _check(request: Request, beams: Beams) -> None:
  if request.sampling.temperature:
    raise UserError(
      f"temperature {request.sampling.temperature:g} with {beams.count} beams: beam search does not sample; "
      "leave one of them out"
    )
  if request.stops or request.alternatives:
    raise UserError(f"stop texts, and alternatives to each token, do not go with {beams.count} beams: leave them out")


def _hypotheses(paths: Paths, stop_ids: frozenset[int]) -> list[Hypothesis]:
  """One prompt's answers, best first; those that were not found have no score."""
  found = []
  for score, tokens, logprobs in zip(*paths, strict=True):
    if not np.isfinite(score):
      continue
    length = int((tokens >= 0).sum())
    stopped = int(tokens[length - 1]) in stop_ids
    kept = slice(length - stopped)
    found.append(
      Hypothesis(
        float(score),
        Completion(
          tokens=tokens[kept].tolist(),
          logprobs=logprobs[kept].tolist(),
          logprob=float(logprobs[:length].sum()),
          finish="stop" if stopped else "length",
        ),
      )
    )
  return found
