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
  else:
    weights = (prompt + target) * _kernels(shapes["layers"])
  return 2.0 * (weights + target * config.width * config.vocab_size) + 4.0 * squares(config, prompt, target)


def squares(config: DecoderConfig | T5Config, prompt: int, target: int) -> float:
  """Pairs of tokens that meet in attention, times the width of all heads."""
  if isinstance(config, T5Config):
    pairs = config.encoder_layers * prompt**2 + config.decoder_layers * target * (target + prompt)
  else:
    pairs = config.layers * (prompt + target) ** 2
  return float(pairs * config.heads * config.head_dim)


def update(
  config: DecoderConfig | T5Config, shapes: Any, prompt: int, target: int, *, full: bool, remat: str = "none"
) -> float:
  """FLOPs of one example's part of an update: frozen weights are met twice (4N a token), trained ones thrice (6N).

  What is computed again is met once more (`models/remat.py`), but for logits, and of a frozen layer the last product.
  """
  once = forward(config, shapes, prompt, target)
  scores = 4.0 * squares(config, prompt, target)
  if remat == "full":
    again = (
      once - 2.0 * target * config.width * config.vocab_size - (0 if full else last_products(config, prompt, target))
    )
  else:
    again = scores / (1 if full else 2) if remat == "dots" else 0.0
  return (3 if full else 2) * once + again


def last_products(config: DecoderConfig | T5Config, prompt: int, target: int) -> float:
  """FLOPs of each layer's way down, which nothing of the backward pass reads where its weights are frozen."""
  if isinstance(config, T5Config):
    met = config.encoder_layers * prompt + config.decoder_layers * target
  else:
    met = config.layers * (prompt + target)
  return 2.0 * met * config.ffn_width * config.width


def _kernels(tree: Any) -> int:
  """Numbers in kernels of layers."""
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return sum(math.prod(leaf.shape) for path, leaf in leaves if getattr(path[-1], "key", "") == "kernel")
