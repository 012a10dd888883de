"""One training step: loss on target tokens alone, summed over microbatches and divided once."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from fiat_jax import sharding
from fiat_jax.data.pairs import PairBatch
from fiat_jax.data.sequences import Batch
from fiat_jax.training.optimizers import Rates

ONE = Rates(*map(np.float32, (1.0, 1.0, math.inf)))  # of an optimizer that has its own rate
Collection = Literal["lora", "params"]
AnyBatch = Batch | PairBatch  # of a decoder-only model, of an encoder–decoder


class TrainState(NamedTuple):
  """What changes while training: the trained collection alone, its optimizer state, the number of updates done."""

  trained: Any
  optimizer: Any
  step: jax.Array


class StepMetrics(NamedTuple):
  """Mean loss per target token (nats), gradient norm before clipping, target tokens, the learning rate."""

  loss: jax.Array
  grad_norm: jax.Array
  tokens: jax.Array
  rate: jax.Array


def init_state(trained: Any, optimizer: optax.GradientTransformation) -> TrainState:
  """The state before the first step; over a mesh, the optimizer's part lies as what it belongs to."""

  if sharding.mesh() is None:
    return fresh_state(trained, optimizer)
  fresh = lambda trained: fresh_state(trained, optimizer)  # noqa: E731
  return jax.jit(fresh, out_shardings=sharding.like(jax.eval_shape(fresh, trained), trained))(trained)


def fresh_state(trained: Any, optimizer: optax.GradientTransformation) -> TrainState:
  """The same, wherever it comes to lie."""
  return TrainState(trained, optimizer.init(trained), jnp.zeros((), jnp.int32))


def target_loss(
  module: nn.Module, variables: Mapping[str, Any], micro: Mapping[str, jax.Array], rngs: dict[str, jax.Array]
) -> jax.Array:
  """Summed cross-entropy (nats) over the target tokens of a microbatch."""
  logits: Any = module.apply(variables, micro, method="target_logits", rngs=rngs)
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, micro["target_ids"])
  return jnp.sum(losses * micro["target_weights"])


def summed_gradients(
  module: nn.Module, collection: Collection, trained: Any, frozen: Mapping[str, Any], batch: AnyBatch, key: jax.Array
) -> tuple[jax.Array, Any, jax.Array]:
  """Loss and gradient of the whole batch, both sums over target tokens, and the number of those tokens."""

  arrays = {name: array for name, array in batch._asdict().items() if name != "microbatches"}

  def add_microbatch(i: jax.Array, total: tuple[jax.Array, Any, jax.Array]):
    micro = {name: jax.lax.dynamic_index_in_dim(array, i, keepdims=False) for name, array in arrays.items()}
    noise = jax.random.fold_in(key, i)
    rngs = {"dropout": noise, "neftune": noise}  # Flax folds in where each is used
    loss_of = lambda tree: target_loss(module, {**frozen, collection: tree}, micro, rngs)  # noqa: E731
    loss, gradient = jax.value_and_grad(loss_of)(trained)
    return jax.tree.map(jnp.add, total, (loss, gradient, jnp.sum(micro["target_weights"])))

  zero = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, trained), jnp.zeros(()))
  if arrays["target_ids"].shape[0] == 1:  # XLA moves much of a loop of one before it, and does that twice
    return add_microbatch(jnp.zeros((), jnp.int32), zero)
  return jax.lax.fori_loop(0, batch.microbatches, add_microbatch, zero)


@dataclasses.dataclass(frozen=True)
class Step:
  """A jitted `(state, frozen, batch) → (state, metrics)`: a program, and the numbers that set one run's apart."""

  compiled: Any
  seed: np.uint32
  rates: Rates

  def __call__(self, state: TrainState, frozen: Mapping[str, Any], batch: AnyBatch) -> tuple[TrainState, StepMetrics]:
    return self.compiled(state, frozen, batch, self.seed, self.rates)

  def lower(self, state: Any, frozen: Mapping[str, Any], batch: Any) -> Any:
    """`jax.stages.Lowered` of it, for arguments that may be abstract."""
    return self.compiled.lower(state, frozen, batch, self.seed, self.rates)


def make_step(
  module: nn.Module,
  optimizer: optax.GradientTransformation,
  collection: Collection,
  seed: int,
  lies: TrainState | None = None,
  rates: Rates = ONE,
) -> Step:
  """A step of training.

  `frozen` holds every collection but the trained one. Dropout and noise are keyed by (seed, step, microbatch). An
  adapter's state is small and not donated, so that the state before a step can still be validated; full fine-tuning
  donates it. What `optimizer` gives is multiplied by the learning rate. Runs that differ in seed, learning rates and
  number of steps alone share one program. What comes in lies where it lies (`fiat_jax.sharding`); `lies` (of
  `sharding.lies`) keeps the state there.
  """
  places, tree = jax.tree.flatten(lies)
  return Step(_compiled(module, optimizer, collection, tuple(places), tree), np.uint32(seed), rates)


@functools.cache
def _compiled(
  module: nn.Module, optimizer: optax.GradientTransformation, collection: Collection, places: tuple[Any, ...], tree: Any
) -> Callable[..., Any]:
  def step(
    state: TrainState, frozen: Mapping[str, Any], batch: AnyBatch, seed: jax.Array, rates: Rates
  ) -> tuple[TrainState, StepMetrics]:
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    loss, gradient, tokens = summed_gradients(module, collection, state.trained, frozen, batch, key)
    gradient = jax.tree.map(lambda g: g / tokens, gradient)
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.trained)
    rate = rates.at(state.step)
    trained = optax.apply_updates(state.trained, jax.tree.map(lambda update: rate * update, updates))
    metrics = StepMetrics(loss / tokens, optax.tree.norm(gradient), tokens, rate)
    return TrainState(trained, optimizer_state, state.step + 1), metrics

  lies = jax.tree.unflatten(tree, places)
  out: dict[str, Any] = {} if lies is None else {"out_shardings": (lies, sharding.everywhere())}
  return jax.jit(step, donate_argnums=0 if collection == "params" else (), **out)
