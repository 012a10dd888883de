"""The training loop: steps, validation from step 0 on, the best kept, exact resumption."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from fiat_jax import signals
from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.data.batches import Batches
from fiat_jax.errors import UserError
from fiat_jax.progress import STARTED, progress, say
from fiat_jax.training.journal import Journal
from fiat_jax.training.step import StepMetrics, TrainState

Advance = Callable[[TrainState, Mapping[str, Any], Any], tuple[TrainState, StepMetrics]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
  """How many updates, and how many between two validations; `metric` decides which checkpoint is best."""

  steps: int
  validate_every: int
  metric: str


@dataclasses.dataclass(kw_only=True)
class Training:
  """Everything the loop works with.

  Attributes:
    advance: the jitted step.
    frozen: collections that do not change.
    batches: global batch i for step i.
    validate: metrics of a trained tree on the validation split.
    rates: the learning rate of step i.
    names: a row's id, for messages.
    keeps_state: the step leaves the state it was given intact (adapters; full fine-tuning donates it).
  """

  config: LoopConfig
  advance: Advance
  frozen: Mapping[str, Any]
  batches: Batches
  validate: Callable[[Any], dict[str, float]]
  rates: Callable[[int], Any]
  names: Callable[[int], str]
  keeps_state: bool


def train(work: Training, state: TrainState, checkpoints: RunCheckpoints, journal: Journal) -> tuple[int, Any]:
  """Runs to the last step, from where a stopped run left off; returns the best step and its trained tree.

  Raises:
    UserError: a loss that is not finite; the last finite checkpoint stays.
    signals.Stopped: a signal came; everything is saved.
  """
  restored = checkpoints.restore(state)
  if restored:
    state = restored[0]
    say(f"going on from step {int(state.step)}")
  journal.open(restored[1] if restored else [])
  step = int(state.step)
  with progress("training", work.config.steps, step) as bar:
    while True:
      # The first step runs before the first validation: what is wrong with it shows at once.
      ahead = _advance(work, state, step) if step == 0 and work.keeps_state and work.config.steps else None
      if ahead and not restored:
        say(f"the first step is done, {time.monotonic() - STARTED:.1f} s after the command began")
      try:
        _validate_when_due(work, state, step, checkpoints, journal)
        signals.check()
      except signals.Stopped:
        _save(checkpoints, state, step, journal)
        checkpoints.wait()
        raise
      if step == work.config.steps:
        break
      state, metrics = ahead or _advance(work, state, step)
      step += 1
      journal.write({"step": step, **metrics})
      bar.advance(note=f"loss {metrics['loss']:.3f}")
  best = journal.best(work.config.metric)
  return best, checkpoints.restore_best(state.trained, best)


def _advance(work: Training, state: TrainState, step: int) -> tuple[TrainState, dict[str, float]]:
  batch = work.batches[step]
  state, metrics = work.advance(state, work.frozen, batch)
  loss, grad_norm, tokens = (float(x) for x in jax.device_get(metrics))
  if not (math.isfinite(loss) and math.isfinite(grad_norm)):
    rows = ", ".join(work.names(n) for n in work.batches.rows(step))
    raise UserError(
      f"step {step + 1}: the loss is {loss} and the gradient's norm {grad_norm}, on the rows {rows}; the last finite "
      "checkpoint is kept. Lower the learning rate, or look at these rows"
    )
  rate = float(np.asarray(work.rates(step)))
  return state, {"loss": loss, "grad_norm": grad_norm, "learning_rate": rate, "target_tokens": int(tokens)}


def _validate_when_due(
  work: Training, state: TrainState, step: int, checkpoints: RunCheckpoints, journal: Journal
) -> None:
  config = work.config
  due = step % config.validate_every == 0 or step == config.steps
  if not due or journal.validated(step):
    return
  metrics = work.validate(state.trained)
  journal.write({"step": step, "validation": metrics})
  say(f"step {step}: validation " + ", ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
  if journal.best(config.metric) == step:
    checkpoints.save_best(step, state.trained)
  _save(checkpoints, state, step, journal)


def _save(checkpoints: RunCheckpoints, state: TrainState, step: int, journal: Journal) -> None:
  checkpoints.save(step, state, journal.records)
