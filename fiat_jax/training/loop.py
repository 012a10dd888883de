"""The training loop: steps, validation from step 0 on, the best kept, exact resumption."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from fiat_jax import processes, sharding, signals
from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.data.batches import Batches
from fiat_jax.data.packing import Example, Shape
from fiat_jax.errors import UserError
from fiat_jax.progress import STARTED, progress, say
from fiat_jax.shortage import memory_told, out_of_memory
from fiat_jax.training.feed import Feed
from fiat_jax.training.journal import Journal
from fiat_jax.training.step import StepMetrics, TrainState

Advance = Callable[[TrainState, Mapping[str, Any], Any], tuple[TrainState, StepMetrics]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
  """How many updates, and how many between two validations; `metric` decides which checkpoint is best.

  After `patience` validations without a better one training stops, where it is not 0.
  """

  steps: int
  validate_every: int
  metric: str
  patience: int = 0


@dataclasses.dataclass(kw_only=True)
class Training:
  """Everything the loop works with.

  Attributes:
    advance: the jitted step.
    frozen: collections that do not change.
    batches: global batch i for step i; the loop makes their microbatches smaller where memory does not suffice.
    validate: metrics of a trained tree on the validation split.
    names: a row's id, for messages.
    keeps_state: the step leaves the state it was given intact (adapters; full fine-tuning donates it).
  """

  config: LoopConfig
  advance: Advance
  frozen: Mapping[str, Any]
  batches: Batches
  validate: Callable[[Any], dict[str, float]]
  names: Callable[[int], str]
  keeps_state: bool


class _OutOfMemory(Exception):
  """A step did not fit; its cause is what JAX said."""


def train(work: Training, state: TrainState, checkpoints: RunCheckpoints, journal: Journal) -> tuple[int, Any]:
  """Runs to the last step, from where a stopped run left off; returns the best step and its trained tree.

  Raises:
    UserError: a loss that is not finite (the last finite checkpoint stays), or memory for not even one row.
    signals.Stopped: a signal came; everything is saved.
  """
  restored = checkpoints.restore(state)
  if restored:
    state = restored[0]
    say(f"going on from step {int(state.step)}")
  journal.open(restored[1] if restored else [])
  _agree_on_shape(work, journal)
  feed = Feed(work.batches)
  with progress("training", work.config.steps, int(state.step)) as bar:
    while True:
      step = int(state.step)
      try:
        # The first step runs before the first validation: what is wrong with it shows at once.
        ahead = _advance(work, state, step, feed) if step == 0 and work.keeps_state and work.config.steps else None
        if ahead and not restored:
          say(f"the first step is done, {time.monotonic() - STARTED:.1f} s after the command began")
        _validate_when_due(work, state, step, checkpoints, journal)
        processes.check_signals()
        if step == work.config.steps or _stops_early(work.config, step, journal):
          break
        state, metrics = ahead or _advance(work, state, step, feed)
      except signals.Stopped:
        _save(checkpoints, state, step, journal)
        checkpoints.wait()
        raise
      except _OutOfMemory as e:
        state = _with_less_memory(work, state, checkpoints, journal, e.__cause__ or e)
        continue
      journal.write({"step": step + 1, **metrics})
      bar.advance(note=f"loss {metrics['loss']:.3f}")
  best = journal.best(work.config.metric)
  return best, checkpoints.restore_best(state.trained, best)


def _agree_on_shape(work: Training, journal: Journal) -> None:
  """The microbatch is recorded, for a run that goes on has to sum in the same order.

  On more devices than there were its rows are filled up so that they can be dealt out.
  """
  recorded = journal.last("microbatch")
  if recorded:
    rows = -(-recorded["rows"] // work.batches.parts) * work.batches.parts
    work.batches.shape = Shape(**{**recorded, "rows": rows})
  else:
    journal.write({"step": 0, "microbatch": dataclasses.asdict(work.batches.shape)})


def _advance(work: Training, state: TrainState, step: int, feed: Feed) -> tuple[TrainState, dict[str, float]]:
  try:
    state, metrics = work.advance(state, work.frozen, feed.take(step))
    if step + 1 < work.config.steps:
      feed.prepare(step + 1)  # the devices are at work until their figures are asked for
    loss, grad_norm, tokens, rate = (float(x) for x in jax.device_get(metrics))
  except Exception as e:
    if out_of_memory(e):
      raise _OutOfMemory from e
    raise
  if not (math.isfinite(loss) and math.isfinite(grad_norm)):
    raise UserError(_not_finite(work, step, loss, grad_norm, rate))
  return state, {"loss": loss, "grad_norm": grad_norm, "learning_rate": rate, "target_tokens": round(tokens)}


def _not_finite(work: Training, step: int, loss: float, grad_norm: float, rate: float) -> str:
  numbers, lengths = work.batches.rows(step), work.batches.lengths()
  longest = max(numbers, key=lambda n: int(lengths[n]))
  narrow = any(leaf.dtype == jax.numpy.bfloat16 for leaf in jax.tree.leaves(work.frozen))
  causes = f"likely causes: a learning rate too high (here {rate:.2g})"
  causes += ", bfloat16 (try --dtype float32)" if narrow else ""
  causes += f", a row that is not like the others (the longest is {work.names(longest)}, {lengths[longest]} tokens)"
  return (
    f"step {step + 1}: the loss is {loss} and the gradient's norm {grad_norm}, on the rows "
    f"{', '.join(work.names(n) for n in numbers)}; the last finite checkpoint is kept; {causes}"
  )


def _with_less_memory(
  work: Training, state: TrainState, checkpoints: RunCheckpoints, journal: Journal, cause: BaseException
) -> TrainState:
  """Halves the microbatch and returns the state to go on from, recorded and saved.

  That is the state before the step, or where the step was given it for good, the last checkpoint's.

  Raises:
    UserError: there is nothing to halve.
  """
  if processes.count() > 1:  # the others may have had enough: they cannot be told to go back
    raise UserError(f"out of memory ({memory_told(cause)}) in one of several processes: lower --microbatch_tokens")
  smaller = work.batches.halved()
  if smaller is None:
    raise UserError(_too_long(work, state, checkpoints, cause)) from None
  state, records = _intact(state, checkpoints)
  if records is not None:
    journal.open(records)
  work.batches.shape = smaller
  step = int(state.step)
  say(
    f"step {step + 1}: out of memory ({memory_told(cause)}); going on with microbatches of {smaller.rows} rows of "
    f"{smaller.length} tokens"
  )
  journal.write({"step": step, "microbatch": dataclasses.asdict(smaller)})
  _save(checkpoints, state, step, journal)
  return state


def _intact(state: TrainState, checkpoints: RunCheckpoints) -> tuple[TrainState, list[dict[str, Any]] | None]:
  """The state itself, or where a step has consumed it, state and records of the last checkpoint."""
  if not any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in jax.tree.leaves(state)):
    return state, None
  checkpoints.wait()
  restored = checkpoints.restore(state)
  assert restored, "a step that consumes its state is taken only after the first checkpoint"
  return restored


def _too_long(work: Training, state: TrainState, checkpoints: RunCheckpoints, cause: BaseException) -> str:
  """What to say where one row does not fit: shorter ones are tried, to tell which length would."""
  shape, lengths = work.batches.shape, work.batches.lengths()
  fits = shape.length // 2
  while fits >= 16:
    try:
      row = Example(np.zeros(fits - 1, np.int32), np.zeros(1, np.int32), 0)
      one = Shape(rows=work.batches.parts, length=fits, targets=min(fits, shape.targets))
      batch = sharding.rows(work.batches.packing.pack([row], one))
      jax.block_until_ready(work.advance(_intact(state, checkpoints)[0], work.frozen, batch)[1])
      break
    except Exception as e:
      if not out_of_memory(e):
        raise
      fits //= 2
  told = f"out of memory with a single row of {shape.length} tokens at a time ({memory_told(cause)})"
  if fits < 16:
    return f"{told}, and not even a short one fits: choose a smaller --model, or --dtype bfloat16"
  over = int((lengths > fits).sum())
  return (
    f"{told}; {fits} tokens fit, which {over} of {len(lengths)} rows exceed: shorten or leave out those, choose a "
    "smaller --model, or --dtype bfloat16. --batch need not change"
  )


def _stops_early(config: LoopConfig, step: int, journal: Journal) -> bool:
  waited = journal.waited(config.metric)
  if not config.patience or waited < config.patience:
    return False
  say(
    f"step {step}: {waited} validations without a better {config.metric} than at step {journal.best(config.metric)}: "
    "training stops here (--patience)"
  )
  return True


def _validate_when_due(
  work: Training, state: TrainState, step: int, checkpoints: RunCheckpoints, journal: Journal
) -> None:
  config = work.config
  due = step % config.validate_every == 0 or step == config.steps
  if not due or journal.validated(step):
    return
  metrics = work.validate(state.trained)
  journal.write({"step": step, "validation": metrics})
  journal.draw(config.metric)
  say(f"step {step}: validation " + ", ".join(f"{name} {value:.2f}" for name, value in metrics.items()))
  if journal.best(config.metric) == step:
    checkpoints.save_best(step, state.trained)
  _save(checkpoints, state, step, journal)


def _save(checkpoints: RunCheckpoints, state: TrainState, step: int, journal: Journal) -> None:
  checkpoints.save(step, state, journal.records)
