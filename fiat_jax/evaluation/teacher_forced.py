"""How well a model predicts given targets, token by token, each after the right ones: nothing is generated."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from fiat_jax import sharding
from fiat_jax.data.batches import Examples
from fiat_jax.data.packing import Packing, Shape

CHUNK = 64  # examples that are packed together


def score(
  module: nn.Module,
  variables: Mapping[str, Any],
  examples: Examples,
  packing: Packing,
  shape: Shape,
  on_done: Callable[[int], None],
) -> dict[str, float]:
  """Over all target tokens: mean `loss` (nats), `perplexity`, `token_accuracy` (0 to 100); `tokens`, their number."""
  loss = hits = tokens = 0.0
  for start in range(0, len(examples), CHUNK):
    chunk = [examples[n] for n in range(start, min(start + CHUNK, len(examples)))]
    batch = packing.pack(chunk, shape)
    arrays = {name: array for name, array in batch._asdict().items() if name != "microbatches"}
    for number in range(batch.microbatches):
      found = sums(module, variables, sharding.rows({name: array[number] for name, array in arrays.items()}))
      loss, hits, tokens = (total + float(part) for total, part in zip((loss, hits, tokens), found, strict=True))
    on_done(len(chunk))
  mean = loss / tokens
  perplexity = math.exp(mean) if mean < 700 else math.inf
  return {"loss": mean, "perplexity": perplexity, "token_accuracy": 100 * hits / tokens, "tokens": tokens}


@functools.partial(jax.jit, static_argnums=0)
def sums(
  module: nn.Module, variables: Mapping[str, Any], micro: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Loss, tokens whose likeliest guess is right, and all of them, summed over a microbatch."""
  logits: Any = module.apply(variables, micro, method="target_logits")
  losses = optax.softmax_cross_entropy_with_integer_labels(logits, micro["target_ids"])
  right = jnp.argmax(logits, axis=-1) == micro["target_ids"]
  weights = micro["target_weights"]
  return jnp.sum(losses * weights), jnp.sum(right * weights), jnp.sum(weights)
