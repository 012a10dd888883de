"""Learning-rate schedules and the optimizer."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import optax

from fiat_jax.errors import UserError

Schedule = Literal["cosine", "constant"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """AdamW (Loshchilov & Hutter, 2019) after clipping by global norm; `warmup` is a share of the steps."""

  learning_rate: float = 1e-3
  schedule: Schedule = "cosine"
  warmup: float = 0.05
  weight_decay: float = 0.0
  clip: float = 1.0

  def __post_init__(self):
    if self.schedule not in get_args(Schedule):
      raise UserError(f"the schedule {self.schedule!r} is unknown: give one of {', '.join(get_args(Schedule))}")
    if not self.learning_rate > 0:
      raise UserError(f"a learning rate of {self.learning_rate}: give more than 0")


def learning_rate(config: OptimizerConfig, steps: int) -> optax.Schedule:
  """Linear warm-up to the peak, then constant, or a cosine towards zero."""
  warmup = max(1, round(config.warmup * steps))
  if config.schedule == "constant":
    after = optax.constant_schedule(config.learning_rate)
  else:
    after = optax.cosine_decay_schedule(config.learning_rate, max(1, steps - warmup))
  # Update n (from 0) takes a step of (n + 1) / warmup of the peak: the first is not wasted on a rate of zero.
  rise = optax.linear_schedule(config.learning_rate / warmup, config.learning_rate, max(1, warmup - 1))
  return optax.join_schedules([rise, after], [warmup])


def optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
  return optax.chain(
    optax.clip_by_global_norm(config.clip),
    optax.adamw(learning_rate(config, steps), weight_decay=config.weight_decay),
  )
