"""A checkpoint on this machine that reasons: our own engine behind the desk.

What all prompts begin with (I_β and the exemplars) is computed once for all. It is found over all prompts of the
command, answered ones too, so that a command that goes on shares what it shared before.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence

from fiat_jax import runtime, signals
from fiat_jax.checkpoints.locate import locate
from fiat_jax.configuration import Configuration
from fiat_jax.data import marks
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.request import Completion, Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.models import pretrained
from fiat_jax.models.lora import LoraConfig
from fiat_jax.progress import say
from fiat_jax.reasoning.desk import Claim, Desk
from fiat_jax.reasoning.request import Answer

ROUNDS = 8  # so many requests a slot are dealt out at a time: what is done when it stops stays balanced
WAIT_SECONDS = 2.0


class EngineReasoner:
  """A `Reasoner` over a checkpoint."""

  endpoint, remote = "", False

  def __init__(self, configuration: Configuration):
    settings = configuration.settings
    found = locate(settings.beta, configuration.models.get(settings.beta))
    plain = settings.beta_template == "plain"
    self._described = pretrained.describe(
      found.weights, dtype=settings.dtype, lora=LoraConfig(), plain=plain, tokenizer=found.tokenizer
    )
    marks.check_format(self._described.tokenizer, plain=plain)
    self.name = f"{settings.beta}@{self._described.fingerprint[:16]}-{settings.dtype}"
    self.context = self._described.family.room
    self._slots, self._length = settings.slots, settings.reasoning_length

  def count(self, prompts: Sequence[str]) -> list[int]:
    return [len(ids) for ids in self._described.tokenizer.encode_prompts(prompts)]

  def run(self, desk: Desk, prompts: Sequence[str]) -> None:
    tokenizer = self._described.tokenizer
    shared = _common(tokenizer.encode_prompts(list(dict.fromkeys(prompts))))
    if shared:
      say(f"the first {shared} tokens of every prompt are computed once")
    while len(desk):
      claims = desk.take(ROUNDS * self._slots)
      if claims:
        self._ask(desk, claims, shared)
      elif desk.capped:
        return
      else:
        time.sleep(WAIT_SECONDS)  # another process is at what is left
      signals.check()

  def _ask(self, desk: Desk, claims: Sequence[Claim], shared: int) -> None:
    tokenizer = self._described.tokenizer
    prompts = tokenizer.encode_prompts([claim.request.prompt for claim in claims])
    requests = [
      Request(
        tokens=ids,
        max_new_tokens=self._length,
        sampling=Sampling(temperature=claim.request.asking.temperature, seed=claim.request.seed),
      )
      for claim, ids in zip(claims, prompts, strict=True)
    ]

    def on_done(number: int, completion: Completion) -> None:
      tokens = (len(prompts[number]), len(completion.tokens))
      text = tokenizer.decode(completion.tokens).strip()
      desk.answered(claims[number], Answer(text=text, finish=completion.finish, tokens=tokens))
      signals.check()

    self._engine.generate(requests, on_done, shared=shared)

  @functools.cached_property
  def _engine(self) -> Engine:
    runtime.start()
    weights = self._described.family.unstack(pretrained.load(self._described))
    tokenizer = self._described.tokenizer
    stops, decode = tokenizer.stop_ids, tokenizer.decode
    return Engine(self._described.module, weights, stop_ids=stops, slots=self._slots, decode=decode)


def _common(prompts: Sequence[Sequence[int]]) -> int:
  """How many first ids all prompts share; never the whole of one."""
  if len(prompts) < 2:
    return 0
  first, shared = prompts[0], min(map(len, prompts)) - 1
  for ids in prompts[1:]:
    shared = next((n for n in range(shared) if ids[n] != first[n]), shared)
  return shared
