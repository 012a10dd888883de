"""The least that a step has to compute: products of matrices by the model's sizes, nothing twice."""

from __future__ import annotations

import math
from typing import Any

import jax

from fiat_jax.models.config import DecoderConfig
from fiat_jax.models.t5 import T5Config


def parameters(shapes: Any) -> int:
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def forward(config: DecoderConfig | T5Config, shapes: Any, prompt: int, target: int) -> float:
  """FLOPs of one example, of all devices: two for each weight and token that meet, and attention's products.

  Logits are those of targets alone. Attention counts whole squares, as they are computed.
  """
  if isinstance(config, T5Config):
    inner, stacks = config.heads * config.head_dim, {name: _kernels(shapes[name]) for name in ("encoder", "decoder")}
    cross = config.decoder_layers * 2 * config.width * inner  # keys and values of the encoder's states
    weights = prompt * (stacks["encoder"] + cross) + target * (stacks["decoder"] - cross)
    squares = config.encoder_layers * prompt**2 + config.decoder_layers * target * (target + prompt)
  else:
    inner, length = config.heads * config.head_dim, prompt + target
    weights, squares = length * _kernels(shapes["layers"]), config.layers * length**2
  return 2.0 * (weights + target * config.width * config.vocab_size) + 4.0 * squares * inner


def update(config: DecoderConfig | T5Config, shapes: Any, prompt: int, target: int, *, full: bool) -> float:
  """FLOPs of one example's part of an update: frozen weights are met twice (4N a token), trained ones thrice (6N)."""
  return (3 if full else 2) * forward(config, shapes, prompt, target)


def _kernels(tree: Any) -> int:
  """Numbers in kernels of layers."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return sum(math.prod(leaf.shape) for path, leaf in leaves if getattr(path[-1], "key", "") == "kernel")
