"""From an encoder–decoder checkpoint's own description to our module: its configuration, where each tensor goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn

from fiat_jax.errors import UserError
from fiat_jax.models.registry import Leaf, unboxed
from fiat_jax.models.t5 import T5, T5Config

T5_TYPES = ("t5", "mt5")
FFN_KINDS = {"relu": False, "gated-gelu": True}


def t5_config(config: Mapping[str, Any], path: str, dtype: str) -> T5Config:
  """Our configuration from the keys of a Hugging Face `config.json` of T5 or mT5.

  Raises:
    UserError: an architecture, or a feature of one, that this module does not compute.
  """
  kind = config.get("model_type")
  if kind == "umt5":
    raise UserError("is a umT5: each of its layers has a relative bias of its own, not supported; take an mT5", path)
  if kind not in T5_TYPES:
    raise UserError(f"is of the architecture {kind!r}; there is {', '.join(T5_TYPES)}", path)
  if dtype == "float16":
    raise UserError("T5's activations overflow in float16: give --dtype bfloat16 or float32", path)
  ffn = config.get("feed_forward_proj", "relu")
  if ffn not in FFN_KINDS:
    raise UserError(f"has the feed-forward layer {ffn!r}; there is {', '.join(FFN_KINDS)}", path)
  try:
    return T5Config(
      vocab_size=config["vocab_size"],
      width=config["d_model"],
      encoder_layers=config["num_layers"],
      decoder_layers=config.get("num_decoder_layers") or config["num_layers"],
      heads=config["num_heads"],
      head_dim=config["d_kv"],
      ffn_width=config["d_ff"],
      gated=FFN_KINDS[ffn],
      tied_head=_tied(config),
      buckets=config.get("relative_attention_num_buckets", 32),
      max_distance=config.get("relative_attention_max_distance", 128),
      norm_epsilon=config.get("layer_norm_epsilon", 1e-6),
      start_id=config.get("decoder_start_token_id") or 0,
      dtype=dtype,
    )
  except KeyError as e:
    raise UserError(f"its configuration lacks {e.args[0]!r}: the checkpoint is not complete", path) from None


def _tied(config: Mapping[str, Any]) -> bool:
  """Whether the head is the embedding, and its input scaled.

  transformers 5 writes `tie_word_embeddings: true` into every T5 that it saves, and keeps in `scale_decoder_outputs`
  whether that was so; no mT5 is tied.
  """
  untied = config.get("tie_word_embeddings") is False or config.get("scale_decoder_outputs") is False
  return config["model_type"] == "t5" and not untied


def t5_leaves(config: T5Config) -> list[Leaf]:
  """Every leaf, under Hugging Face's names; the relative bias of a stack is kept in its first block."""
  leaves = [Leaf(("embedding",), "shared.weight", False)]
  for stack, blocks in (("encoder", ENCODER_BLOCKS), ("decoder", DECODER_BLOCKS)):
    leaves += [
      Leaf((stack, "relative_bias"), f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight", True),
      Leaf((stack, "final_norm", "scale"), f"{stack}.final_layer_norm.weight", False),
    ]
    for number, (block, name) in enumerate(blocks.items()):
      place = f"{stack}.block.{{}}.layer.{number}"
      linear = ffn_names(config) if block == "ffn" else ATTENTION
      leaves.append(Leaf((stack, "layers", f"{block}_norm", "scale"), f"{place}.layer_norm.weight", False))
      leaves += [
        Leaf((stack, "layers", block, ours, "kernel"), f"{place}.{name}.{theirs}.weight", True)
        for ours, theirs in linear.items()
      ]
  if not config.tied_head:
    leaves.append(Leaf(("head", "kernel"), "lm_head.weight", True))
  return leaves


def t5x_leaves(config: T5Config) -> list[Leaf]:
  """Every leaf, under T5X's names."""
  leaves = [Leaf(("embedding",), "token_embedder/embedding", False)]
  for stack, blocks in T5X_BLOCKS.items():
    leaves.append(Leaf((stack, "relative_bias"), f"{stack}/relpos_bias/rel_embedding", False))
    leaves.append(Leaf((stack, "final_norm", "scale"), f"{stack}/{stack}_norm/scale", False))
    for ours, (block, norm) in blocks.items():
      place = f"{stack}/layers_{{}}"
      kernels = ffn_names(config) if ours == "ffn" else {name: name for name in ("query", "key", "value", "out")}
      leaves.append(Leaf((stack, "layers", f"{ours}_norm", "scale"), f"{place}/{norm}/scale", False))
      leaves += [
        Leaf((stack, "layers", ours, name, "kernel"), f"{place}/{block}/{theirs}/kernel", False)
        for name, theirs in kernels.items()
      ]
  if not config.tied_head:
    leaves.append(Leaf(("head", "kernel"), "decoder/logits_dense/kernel", False))
  return leaves


ENCODER_BLOCKS = {"attention": "SelfAttention", "ffn": "DenseReluDense"}
DECODER_BLOCKS = {"self_attention": "SelfAttention", "cross_attention": "EncDecAttention", "ffn": "DenseReluDense"}
ATTENTION = {"query": "q", "key": "k", "value": "v", "out": "o"}
T5X_BLOCKS = {
  "encoder": {"attention": ("attention", "pre_attention_layer_norm"), "ffn": ("mlp", "pre_mlp_layer_norm")},
  "decoder": {
    "self_attention": ("self_attention", "pre_self_attention_layer_norm"),
    "cross_attention": ("encoder_decoder_attention", "pre_cross_attention_layer_norm"),
    "ffn": ("mlp", "pre_mlp_layer_norm"),
  },
}


def ffn_names(config: T5Config) -> dict[str, str]:
  """Our names of the FFN's kernels, and the ones that T5's own checkpoints and Hugging Face use."""
  return {"gate": "wi_0", "up": "wi_1", "down": "wo"} if config.gated else {"up": "wi", "down": "wo"}


def t5_shapes(config: T5Config) -> dict[str, Any]:
  """The shape of every leaf (`jax.ShapeDtypeStruct`), without computing any, in the tree of `params`."""
  return unboxed(_boxed(config))


def t5_axes(config: T5Config) -> dict[str, Any]:
  """The names of every leaf's axes (`PartitionSpec`), as its module gave them."""
  return nn.get_partition_spec(_boxed(config))


def _boxed(config: T5Config) -> dict[str, Any]:
  ids = np.zeros((1, 1), np.int32)
  names = ("encoder_tokens", "encoder_segments", "decoder_tokens", "decoder_segments")
  init = lambda: T5(config).init(jax.random.key(0), dict.fromkeys(names, ids), method="init_all")  # noqa: E731
  return jax.eval_shape(init)["params"]
