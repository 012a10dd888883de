"""Learning-rate schedules and the optimizers."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax

from fiat_jax.errors import UserError

Schedule = Literal["cosine", "constant"]
Optimizer = Literal["adamw", "adafactor"]

SINGLE = "single"  # leaves that stack no layers


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


class Rates(NamedTuple):
  """The learning rate of every step, as numbers that a compiled step is given: it serves any.

  Attributes:
    peak: the highest.
    warmup: updates over which it rises. Update n (from 0) takes a step of (n + 1) / warmup of the peak: the first is
      not wasted on a rate of zero.
    decay: updates after those over which a cosine takes it towards zero; infinite: it stays.
  """

  peak: Any
  warmup: Any
  decay: Any

  def at(self, step: Any) -> jax.Array:
    """That of update `step`, from 0."""
    share = jnp.minimum((step - self.warmup) / self.decay, 1.0)
    after = 0.5 * (1 + jnp.cos(jnp.pi * share))
    return self.peak * jnp.where(step < self.warmup, (step + 1) / self.warmup, after)


def learning_rates(config: OptimizerConfig, steps: int) -> Rates:
  """Linear warm-up to the peak, then constant, or a cosine towards zero."""
  warmup = max(1, round(config.warmup * steps))
  decay = math.inf if config.schedule == "constant" else max(1, steps - warmup)
  return Rates(*map(np.float32, (config.learning_rate, warmup, decay)))


def optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """Its updates are those of a learning rate of 1, whatever the config's: a step multiplies them by its own."""
  return _optimizer(config.optimizer, config.weight_decay, config.clip)


@functools.cache  # the same one each time: what is compiled for it is found again
def _optimizer(name: Optimizer, weight_decay: float, clip: float) -> optax.GradientTransformation:
  if name == "adamw":
    rule = optax.scale_by_adam()
  else:
    rule = per_layer(optax.chain(optax.scale_by_factored_rms(), optax.clip_by_block_rms(1.0)))
  return optax.chain(optax.clip_by_global_norm(clip), rule, optax.add_decayed_weights(weight_decay), optax.scale(-1.0))


def per_layer(rule: optax.GradientTransformation) -> optax.GradientTransformation:
  """A rule that acts leaf by leaf, acting layer by layer on the leaves that stack them (all below a key `layers`).

  Without this, Adafactor would take [layers, in, out] for one tensor, factor other axes and clip all layers at once.
  An encoder and a decoder have rules of their own, for they need not have as many layers.
  """
  stacked = optax.GradientTransformation(jax.vmap(rule.init), jax.vmap(rule.update))

  def stack(path: tuple[Any, ...], leaf: Any) -> str:
    names = [str(getattr(key, "key", key)) for key in path]
    return "/".join(names[: names.index("layers") + 1]) if "layers" in names else SINGLE

  def of_stacks(tree: Any) -> optax.GradientTransformation:
    stacks = jax.tree_util.tree_map_with_path(stack, tree)
    return optax.partition({name: rule if name == SINGLE else stacked for name in {*jax.tree.leaves(stacks)}}, stacks)

  return optax.GradientTransformation(
    lambda params: of_stacks(params).init(params),
    lambda updates, state, params=None: of_stacks(updates).update(updates, state, params),
  )
