"""The steps of a run, for devices that need not be here: of training, evaluation, prefill and decoding."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from fiat_jax import sharding
from fiat_jax.data.packing import Example, Shape, rounded_up
from fiat_jax.data.pairs import packing_of
from fiat_jax.decoding import slots as device
from fiat_jax.decoding.engine import Engine, Request
from fiat_jax.decoding.lengths import bucket
from fiat_jax.evaluation import teacher_forced
from fiat_jax.models import adapters
from fiat_jax.models.family import Module, family_of
from fiat_jax.planning import abstract
from fiat_jax.settings import Settings
from fiat_jax.training import microbatch, optimizers
from fiat_jax.training.module import for_training
from fiat_jax.training.step import fresh_state, make_step


class Step(NamedTuple):
  """A program.

  Attributes:
    lower: `jax.stages.Lowered` of it.
    trips: how often a loop runs whose count the program does not say.
    tokens: that it works on, of all devices.
    held: names and bytes on one device of what it is given.
    gradients: bytes on one device of those that it makes.
  """

  lower: Callable[[], Any]
  trips: int
  tokens: int
  held: dict[str, int]
  gradients: int = 0


class Plan:
  """What is to be compiled over the mesh in use, for `module` and settings.

  Args:
    full: all parameters are tuned, not an adapter.
  """

  def __init__(self, module: Module, settings: Settings, optimizer: optimizers.OptimizerConfig, *, full: bool):
    self.module, self._settings, self._full = module, settings, full
    self._trained = for_training(module, settings)
    self.family = family_of(module)
    self._optimizer = optimizers.optimizer(optimizer)
    self.params = abstract.params(self.family, settings.dtype, "" if full else settings.weights)
    self._masters = abstract.params(self.family, "float32") if full else None

  @functools.cached_property
  def _adapter(self) -> Any:
    config = self.module.lora
    assert config is not None, "the module of a plan has an adapter"
    fresh = jax.eval_shape(lambda params: adapters.fresh(jax.random.key(0), params, config), self.params)
    return abstract.placed(fresh, sharding.of_adapter(fresh, self.params))

  @functools.cached_property
  def _state(self) -> Any:
    trained = self._masters if self._full else self._adapter
    fresh = jax.eval_shape(lambda: fresh_state(trained, self._optimizer))
    return abstract.placed(fresh, sharding.like(fresh, trained))

  def shape(self, rows: int) -> Shape:
    """A microbatch with so many rows for each part into which rows are dealt, an example in each."""
    s, packing = self._settings, packing_of(self.family.start_id)
    one = packing.size(_example(s))
    return Shape(rows=rows * sharding.ways("batch"), length=rounded_up(one), targets=s.target_length)

  def train(self, rows: int) -> Step:
    shape, s = self.shape(rows), self._settings
    batch = packing_of(self.family.start_id).pack([_example(s)] * max(s.batch, shape.rows), shape)
    collection = "params" if self._full else "lora"
    frozen = {} if self._full else {"params": self.params}
    step = make_step(
      self._trained, self._optimizer, collection, 0, jax.tree.map(lambda leaf: leaf.sharding, self._state)
    )
    arrays = type(batch)(**abstract.rows(jax.tree.map(np.asarray, batch._asdict())))
    model = self._masters if self._full else self.params
    held = {"model": microbatch.size(model), "optimizer": microbatch.size(self._state.optimizer)}
    held |= {} if self._full else {"adapter": microbatch.size(self._adapter)}
    tokens = max(s.batch, shape.rows) * (s.source_length + s.target_length)
    # Of several microbatches each one's is added to their sum (`training/step.py`).
    gradients = microbatch.size(self._state.trained) * min(2, int(batch.microbatches))
    return Step(lambda: step.lower(self._state, frozen, arrays), int(batch.microbatches), tokens, held, gradients)

  def evaluate(self, rows: int) -> Step:
    """Losses of a microbatch, as of a step without its gradient."""
    shape, s = self.shape(rows), self._settings
    batch = packing_of(self.family.start_id).pack([_example(s)] * shape.rows, shape)._asdict()
    micro = abstract.rows({name: leaf[0] for name, leaf in batch.items() if np.ndim(leaf) > 1})
    variables = {"params": self.params} | ({} if self._full else {"lora": self._adapter})
    held = {"model": microbatch.size(self.params)}
    lower = lambda: teacher_forced.sums.lower(self.module, variables, micro)  # noqa: E731
    return Step(lower, 1, shape.rows * (s.source_length + s.target_length), held)

  def prefill(self) -> Step:
    """One prompt of SOURCE_LENGTH into its slot."""
    family, weights, state = self._decoding()
    request = Request(tokens=[0] * self._settings.source_length, max_new_tokens=self._settings.target_length)
    start = family.start(request.tokens, 0)
    tokens = np.zeros((1, bucket(len(start.ids))), np.int32)
    new = device.joining([0], [start], [request])
    held = {"model": microbatch.size(weights), "cache": microbatch.size(state.cache)}
    lower = lambda: device.prefill.lower(family, weights, state, tokens, new, None)  # noqa: E731
    return Step(lower, 1, tokens.size, held)

  def decode(self) -> Step:
    """One token of every slot: the program's loop of them is counted once."""
    family, weights, state = self._decoding()
    slots = self._settings.slots
    held = {"model": microbatch.size(weights), "cache": microbatch.size(state.cache)}
    kept, stop = np.ones(slots, bool), np.zeros(1, np.int32)
    lower = lambda: device.decode.lower(family, weights, state, kept, stop, None, False, False)  # noqa: E731
    return Step(lower, 1, slots, held)

  def _decoding(self) -> tuple[Any, Any, Any]:
    s = self._settings
    weights = self.family.unstack(self.params)
    if not self._full:
      weights = self.family.with_adapter(weights, self._adapter)
    family = Engine(self.module, weights, stop_ids=(), slots=s.slots).family
    room = family.room(s.source_length, s.source_length + s.target_length, s.target_length)
    state = jax.eval_shape(lambda: device.idle_slots(family, s.slots, room))
    cache = abstract.by_names(state.cache, "slots", "kv")
    return family, weights, abstract.by_names(state._replace(cache=None))._replace(cache=cache)


def _example(settings: Settings) -> Example:
  return Example(np.zeros(settings.source_length, np.int32), np.zeros(settings.target_length, np.int32), 0)
