"""A checkpoint on this machine that reasons: our own engine behind the desk.

What all prompts begin with (I_β and the exemplars) is computed once for all; where many have a beginning of their own
(a language's exemplars), once for those (`prefixes.py`). That, and the room in the cache, follows from all prompts
about the rows, answered ones too: a command that goes on gives each the answer that it would have got without a stop.
"""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from fiat_jax import processes, runtime
from fiat_jax.checkpoints.locate import locate
from fiat_jax.configuration import Configuration
from fiat_jax.data import marks
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Completion
from fiat_jax.decoding.request import Request as EngineRequest
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.evaluation import latency
from fiat_jax.models import pretrained, published
from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.pretrained import Description
from fiat_jax.progress import say
from fiat_jax.reasoning.desk import Dealt, Desk
from fiat_jax.reasoning.prefixes import Prefix, Prefixes
from fiat_jax.reasoning.request import Answer, Request
from fiat_jax.settings import Settings

ROUNDS = 8  # so many requests a slot are decoded at a time: what is done when it stops stays balanced
ROUNDS_OF_GROUPS = 4  # of each group, where there are several
MOST_CLAIMS = 4096  # dealt out at a time
WAIT_SECONDS = 2.0

Wanted = tuple[Sequence[int], float, int, Sequence[str]]
Ended = list[tuple[int, Completion]]


class EngineReasoner:
  """A `Reasoner` over a checkpoint.

  Args:
    called: what the user calls it.
    weights: how its kernels are kept (`int8`, `nf4`; empty: as they came).
    start: the model with its weights, when it is first asked.
  """

  endpoint, remote = "", False

  def __init__(
    self, settings: Settings, called: str, weights: str, described: Description, start: Callable[[], Engine]
  ):
    kept = f"{settings.dtype}-{weights}".rstrip("-")
    self.name = f"{called}@{described.fingerprint[:16]}-{kept}"
    self.context = described.family.room
    self.described = described
    self._length, self._start = settings.reasoning_length, start
    self._slots = settings.slots

  @classmethod
  def of(cls, configuration: Configuration) -> EngineReasoner:
    """The checkpoint that BETA names; its weights are read when it is first asked.

    Raises:
      UserError: there is none, or it is not one that can be asked so.
    """
    settings = configuration.settings
    found = locate(settings.beta, configuration.models.get(settings.beta))
    plain = settings.beta_template == "plain"
    described = pretrained.describe(
      found.weights,
      dtype=settings.dtype,
      lora=LoraConfig(),
      plain=plain,
      tokenizer=found.tokenizer,
      kernels=settings.beta_weights,
    )
    published.check_t5x(settings.beta, described)
    marks.check_format(described.tokenizer, plain=plain)
    return cls(settings, settings.beta, settings.beta_weights, described, lambda: _engine(settings, described))

  def count(self, prompts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in self.described.tokenizer.encode_prompts(prompts)]

  def run(self, desk: Desk, requests: Sequence[Request]) -> None:
    prefixes = Prefixes(requests, self.described.tokenizer.encode_prompts)
    _tell(list(prefixes.groups.values()))
    several = len(prefixes.groups) > 1
    most = self._slots * (ROUNDS_OF_GROUPS * len(prefixes.groups) if several else ROUNDS)
    while len(desk):
      groups: dict[bytes, list[Dealt]] = collections.defaultdict(list)
      for claim in desk.take(min(most, MOST_CLAIMS)):
        groups[prefixes.group_of(claim.request)].append(claim)
      for group, claims in groups.items():
        self._ask(desk, claims, prefixes.groups[group])
      if not groups and desk.capped:
        return
      if not groups:
        time.sleep(WAIT_SECONDS)  # another command is at what is left
      _go_on()

  def latency(self, asked: Sequence[Sequence[Request]]) -> dict[str, float]:
    """Seconds of single rows (`evaluation/latency.py`), each with all the requests about it."""
    ids = self.described.tokenizer.encode_prompts([of_row[0].prompt for of_row in asked])
    found = [
      [
        EngineRequest(
          tokens=tokens,
          max_new_tokens=self._length,
          sampling=Sampling(temperature=request.asking.temperature, seed=request.seed),
          stops=request.asking.stops,
        )
        for request in of_row
      ]
      for tokens, of_row in zip(ids, asked, strict=True)
    ]
    first, last = min(ids), max(ids)  # what these two share all share
    least = min(map(len, ids)) - 1
    shared = next((n for n, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), least)
    return latency.of_requests(self.engine, found, min(shared, least))

  def follow(self) -> None:
    """Computes, in a process that is not the first, what the first one's `run` computes (`processes.led`)."""
    work: Iterator[Any] = iter(())
    while (asked := processes.of_first(None)) is not None:
      processes.check_signals()
      if asked:
        work = self._decode(*asked)
      next(work, None)

  def _ask(self, desk: Desk, claims: Sequence[Dealt], prefix: Prefix) -> None:
    tokenizer = self.described.tokenizer
    prompts = tokenizer.encode_prompts([claim.request.prompt for claim in claims])
    order = sorted(range(len(claims)), key=lambda n: (-len(prompts[n]), prompts[n]))  # equal ones side by side
    asked = [(prompts[n], claims[n].request) for n in order]
    wanted = [(ids, r.asking.temperature, r.seed, r.asking.stops) for ids, r in asked]
    work = [wanted, list(prefix.ids), Lengths(prefix.longest, prefix.longest + self._length, self._length)]
    _go_on(work)
    for ended in self._decode(*work):
      answers = []
      for number, completion in ended:
        n = order[number]
        text = tokenizer.decode(completion.tokens) if completion.text is None else completion.text
        text, tokens = text.strip(), (len(prompts[n]), len(completion.tokens))
        answers.append((claims[n], Answer(text=text, finish=completion.finish, tokens=tokens)))
      desk.close(answers)
      _go_on()

  def _decode(self, wanted: Sequence[Wanted], shared: Sequence[int], lengths: Sequence[int]) -> Iterator[Ended]:
    """What has ended, by its place in `wanted`, every few steps. All processes take each of them together.

    Args:
      wanted: ids, temperature, seed and stop texts of each.
      shared: ids that all begin with.
      lengths: the most of any.
    """
    session = Session(self.engine, Lengths(*lengths), shared)
    numbers = {}
    for n, (ids, temperature, seed, stops) in enumerate(wanted):
      sampling = Sampling(temperature=temperature, seed=seed)
      numbers[session.add(EngineRequest(tokens=ids, max_new_tokens=lengths[-1], sampling=sampling, stops=stops))] = n
    while session:
      yield [(numbers[number], completion) for number, completion in session.advance()]

  @functools.cached_property
  def engine(self) -> Engine:
    """The model with its weights, read now."""
    return self._start()


def _engine(settings: Settings, described: Description) -> Engine:
  runtime.start(settings)
  weights = described.family.unstack(pretrained.load(described), consumes=True)
  stops, decode = described.tokenizer.stop_ids, described.tokenizer.decode
  return Engine(described.module, weights, stop_ids=stops, slots=settings.slots, decode=decode)


def _go_on(work: Sequence[Any] = ()) -> None:
  """Lets the other processes take the next step with this one, or begin this work; all stop here after a signal."""
  processes.of_first(work)
  processes.check_signals()


def _tell(groups: Sequence[Prefix]) -> None:
  shared = sorted(len(prefix.ids) for prefix in groups)
  if len(groups) == 1 and shared[0]:
    say(f"the first {shared[0]} tokens of every prompt are computed once")
  elif shared[-1]:
    say(f"prompts begin in {len(groups)} ways, of {shared[0]} to {shared[-1]} tokens: each is computed once")
