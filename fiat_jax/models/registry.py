"""From a checkpoint's own description to our module: which family it is, its configuration, where each tensor goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from fiat_jax.errors import UserError
from fiat_jax.models.decoder import Decoder, DecoderConfig

DECODER_TYPES = ("llama",)


class Leaf(NamedTuple):
  """Where one of our leaves comes from.

  Attributes:
    path: in our tree, such as ("layers", "attention", "query", "kernel").
    source: the checkpoint's name; `{}` is the layer's number, and such leaves are stacked on axis 0.
    transposed: linear layers are [out, in] there and [in, out] here.
  """

  path: tuple[str, ...]
  source: str
  transposed: bool

  @property
  def stacked(self) -> bool:
    return "{}" in self.source


def decoder_config(config: Mapping[str, Any], path: str, dtype: str) -> DecoderConfig:
  """Our configuration from the keys of a Hugging Face `config.json`.

  Raises:
    UserError: an architecture, or a feature of one, that this module does not compute.
  """
  kind = config.get("model_type")
  if kind not in DECODER_TYPES:
    raise UserError(f"is of the architecture {kind!r}; there is {', '.join(DECODER_TYPES)}", path)
  for key in ("attention_bias", "mlp_bias"):
    if config.get(key):
      raise UserError(f"has {key}, which this architecture does not compute here: choose another checkpoint", path)
  scaling = config.get("rope_scaling") or config.get("rope_parameters") or {}
  if scaling.get("rope_type", "default") != "default":
    raise UserError(f"scales its rotary positions ({scaling['rope_type']}), which is not supported yet", path)
  try:
    heads, width = config["num_attention_heads"], config["hidden_size"]
    return DecoderConfig(
      vocab_size=config["vocab_size"],
      width=width,
      layers=config["num_hidden_layers"],
      heads=heads,
      kv_heads=config.get("num_key_value_heads") or heads,
      head_dim=config.get("head_dim") or width // heads,
      ffn_width=config["intermediate_size"],
      max_length=config["max_position_embeddings"],
      rope_theta=float(config.get("rope_theta") or scaling.get("rope_theta") or 10_000.0),
      norm_epsilon=config.get("rms_norm_eps", 1e-5),
      tied_head=bool(config.get("tie_word_embeddings", False)),
      dtype=dtype,
    )
  except KeyError as e:
    raise UserError(f"its configuration lacks {e.args[0]!r}: the checkpoint is not complete", path) from None


def decoder_leaves(config: DecoderConfig) -> list[Leaf]:
  """Every leaf of a decoder-only model, in Llama's naming."""
  layer = "model.layers.{}."
  linear = {
    ("attention", "query"): "self_attn.q_proj",
    ("attention", "key"): "self_attn.k_proj",
    ("attention", "value"): "self_attn.v_proj",
    ("attention", "out"): "self_attn.o_proj",
    ("ffn", "gate"): "mlp.gate_proj",
    ("ffn", "up"): "mlp.up_proj",
    ("ffn", "down"): "mlp.down_proj",
  }
  norms = {"attention_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
  leaves = [
    Leaf(("embedding",), "model.embed_tokens.weight", False),
    Leaf(("final_norm", "scale"), "model.norm.weight", False),
    *(Leaf(("layers", *path, "kernel"), f"{layer}{name}.weight", True) for path, name in linear.items()),
    *(Leaf(("layers", path, "scale"), f"{layer}{name}.weight", False) for path, name in norms.items()),
  ]
  if not config.tied_head:
    leaves.append(Leaf(("head", "kernel"), "lm_head.weight", True))
  return leaves


def parameter_shapes(config: DecoderConfig) -> dict[str, Any]:
  """The shape of every leaf (`jax.ShapeDtypeStruct`), without computing any, in the tree of `params`."""
  ids = jnp.zeros((1, 1), jnp.int32)
  init = lambda key: Decoder(config).init(key, ids, ids, ids, method="init_all")  # noqa: E731
  return nn.meta.unbox(jax.eval_shape(init, jax.random.key(0)))["params"]
