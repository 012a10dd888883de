"""Learning-rate schedules and the optimizers."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, get_args

import jax
import optax

from fiat_jax.errors import UserError

Schedule = Literal["cosine", "constant"]
Optimizer = Literal["adamw", "adafactor"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
  """AdamW (Loshchilov & Hutter, 2019) or Adafactor (Shazeer & Stern, 2018) after clipping by global norm.

  Adafactor has factored second moments, no momentum and no step sizes of its own: the schedule gives them, and weight
  decay is decoupled, for both. `warmup` is a share of the steps.
  """

  optimizer: Optimizer = "adamw"
  learning_rate: float = 1e-3
  schedule: Schedule = "cosine"
  warmup: float = 0.05
  weight_decay: float = 0.0
  clip: float = 1.0

  def __post_init__(self):
    if self.optimizer not in get_args(Optimizer):
      raise UserError(f"the optimizer {self.optimizer!r} is unknown: give one of {', '.join(get_args(Optimizer))}")
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


@functools.cache  # the same one each time: what is compiled for it is found again
def optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
  rate = learning_rate(config, steps)
  if config.optimizer == "adamw":
    rule = optax.adamw(rate, weight_decay=config.weight_decay)
  else:
    scaled = optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0))
    rule = optax.chain(
      per_layer(scaled), optax.add_decayed_weights(config.weight_decay), optax.scale_by_learning_rate(rate)
    )
  return optax.chain(optax.clip_by_global_norm(config.clip), rule)


def per_layer(rule: optax.GradientTransformation) -> optax.GradientTransformation:
  """A rule that acts leaf by leaf, acting layer by layer on the leaves that stack them (all below a key `layers`).

  Without this, Adafactor would take [layers, in, out] for one tensor, factor other axes and clip all layers at once.
  """
  stacked = optax.GradientTransformation(jax.vmap(rule.init), jax.vmap(rule.update))

  def kind(path: tuple[Any, ...], leaf: Any) -> str:
    return "stacked" if any(getattr(key, "key", None) == "layers" for key in path) else "single"

  return optax.partition(
    {"stacked": stacked, "single": rule}, lambda tree: jax.tree_util.tree_map_with_path(kind, tree)
  )
