"""An encoder–decoder that decodes: layers one by one over unstacked weights, with what was computed before kept.

Shapes: B batch, S source, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from fiat_jax.models import attention
from fiat_jax.models.attention import KV
from fiat_jax.models.t5 import T5, DecoderLayer, EncoderLayer, position_bias

STACKS = ("encoder", "decoder")
Weights = Mapping[str, Any]


def unstack(variables: Mapping[str, Any]) -> dict[str, Any]:
  """One tree a layer of each stack instead of stacked leaves. Copies each layer's slice."""
  params = variables["params"]
  weights: dict[str, Any] = {"outer": {name: leaf for name, leaf in params.items() if name not in STACKS}}
  for stack in STACKS:
    weights["outer"][stack] = {name: leaf for name, leaf in params[stack].items() if name != "layers"}
    weights[stack] = [{"params": layer} for layer in _slices(params[stack]["layers"])]
  return with_adapter(weights, variables["lora"]) if variables.get("lora") else weights


def with_adapter(weights: Weights, adapter: Mapping[str, Any]) -> dict[str, Any]:
  """Unstacked weights with a (stacked) adapter beside them, in one stack or both; the base is shared, not copied."""
  adapted = dict(weights)
  for stack in STACKS:
    if stack in adapter:
      pairs = zip(weights[stack], _slices(adapter[stack]["layers"]), strict=True)
      adapted[stack] = [{**layer, "lora": lora} for layer, lora in pairs]
  return adapted


def _slices(stacked: Mapping[str, Any]) -> list[Any]:
  count = jax.tree.leaves(stacked)[0].shape[0]
  return [jax.tree.map(lambda leaf, i=i: leaf[i], stacked) for i in range(count)]


def encode(model: T5, weights: Weights, tokens: jax.Array, lengths: jax.Array) -> jax.Array:
  """Encoder states [B, S, D] of tokens [B, S], of which a row's first `lengths` [B] count."""
  c, outer = model.config, weights["outer"]["encoder"]
  places = jnp.arange(tokens.shape[1])[None]
  mask = (places < lengths[:, None])[:, None]
  bias = position_bias(c, outer["relative_bias"], places, places, True)
  layer = EncoderLayer(c, model.lora)
  x = _embed(model, weights, tokens)
  for layer_weights in weights["encoder"]:
    x, _ = layer.apply(layer_weights, x, mask, bias)
  return _final_norm(model, outer, x)


def cross(model: T5, weights: Weights, encoded: jax.Array) -> list[KV]:
  """The keys and values of encoder states [B, S, D] in every layer of the decoder: once a request."""
  layer: Any = DecoderLayer(model.config, model.lora)
  return [layer.apply(layer_weights, encoded, method="cross") for layer_weights in weights["decoder"]]


def step(
  model: T5,
  weights: Weights,
  tokens: jax.Array,
  places: jax.Array,
  cache: Sequence[KV],
  cross: Sequence[KV],
  lengths: jax.Array,
) -> tuple[jax.Array, list[KV]]:
  """Logits [B, V] after one more token of each row, and the caches with it.

  Args:
    tokens, places: [B], the token read and its position, which is also where in the cache it goes.
    cache, cross: a `KV` a layer: of the decoder's tokens so far, and of the encoder.
    lengths: [B], how many source places of each row count.
  """
  c, outer = model.config, weights["outer"]["decoder"]
  room, sources = cache[0].v.shape[2], cross[0].v.shape[2]
  keys, at = jnp.arange(room)[None], places[:, None]
  mask = (keys <= at)[:, None]
  cross_mask = (jnp.arange(sources)[None] < lengths[:, None])[:, None]
  bias = position_bias(c, outer["relative_bias"], at, keys, False)
  layer: Any = DecoderLayer(c, model.lora)
  x = _embed(model, weights, tokens[:, None])
  written = []
  for layer_weights, own, source in zip(weights["decoder"], cache, cross, strict=True):
    kv = attention.write(own, layer.apply(layer_weights, x, method="new"), at)
    x = layer.apply(layer_weights, x, kv, mask, bias, source, cross_mask, method="finish")
    written.append(kv)
  return logits(model, weights, _final_norm(model, outer, x)[:, 0]), written


def logits(model: T5, weights: Weights, hidden: jax.Array) -> jax.Array:
  """Logits [..., V] of decoder states [..., D], from unstacked weights."""
  found: Any = model.apply({"params": weights["outer"]}, hidden, method="logits")
  return found


def _embed(model: T5, weights: Weights, tokens: jax.Array) -> jax.Array:
  found: Any = model.apply({"params": weights["outer"]}, tokens, method="embed")
  return found


def _final_norm(model: T5, outer: Weights, x: jax.Array) -> jax.Array:
  found: Any = model.config.norm().apply({"params": outer["final_norm"]}, x)
  return found
