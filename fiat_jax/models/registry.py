"""Where each tensor of a checkpoint goes in our module, and the shapes there. Configurations are in `families.py`."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from flax import linen as nn

from fiat_jax.models.config import DecoderConfig
from fiat_jax.models.decoder import Decoder

Naming = Literal["hugging_face", "t5x"]  # whose names a checkpoint uses


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


def decoder_leaves(config: DecoderConfig) -> list[Leaf]:
  """Every leaf of a decoder-only model, named as transformers 5 names its modules."""
  layer = f"{config.stem}.layers.{{}}."
  linear = {
    ("attention", "query"): ("self_attn.q_proj", config.qkv_bias),
    ("attention", "key"): ("self_attn.k_proj", config.qkv_bias),
    ("attention", "value"): ("self_attn.v_proj", config.qkv_bias),
    ("attention", "out"): ("self_attn.o_proj", config.out_bias),
    ("ffn", "gate"): ("mlp.gate_proj", config.ffn_bias),
    ("ffn", "up"): ("mlp.up_proj", config.ffn_bias),
    ("ffn", "down"): ("mlp.down_proj", config.ffn_bias),
  }
  norms: dict[tuple[str, ...], str] = {("attention_norm",): "input_layernorm"}
  if config.post_norms:
    norms |= {("attention_post_norm",): "post_attention_layernorm", ("ffn_norm",): "pre_feedforward_layernorm"}
    norms |= {("ffn_post_norm",): "post_feedforward_layernorm"}
  else:
    norms |= {("ffn_norm",): "post_attention_layernorm"}
  if config.qk_norms:
    norms |= {("attention", "query_norm"): "self_attn.q_norm", ("attention", "key_norm"): "self_attn.k_norm"}
  leaves = [
    Leaf(("embedding",), f"{config.stem}.embed_tokens.weight", False),
    Leaf(("final_norm", "scale"), f"{config.stem}.norm.weight", False),
    *(Leaf(("layers", *path, "kernel"), f"{layer}{name}.weight", True) for path, (name, _) in linear.items()),
    *(Leaf(("layers", *path, "bias"), f"{layer}{name}.bias", False) for path, (name, bias) in linear.items() if bias),
    *(Leaf(("layers", *path, "scale"), f"{layer}{name}.weight", False) for path, name in norms.items()),
  ]
  if not config.tied_head:
    leaves.append(Leaf(("head", "kernel"), "lm_head.weight", True))
  return leaves


def parameter_shapes(config: DecoderConfig) -> dict[str, Any]:
  """The shape of every leaf (`jax.ShapeDtypeStruct`), without computing any, in the tree of `params`."""
  return unboxed(_boxed(config))


def parameter_axes(config: DecoderConfig) -> dict[str, Any]:
  """The names of every leaf's axes (`PartitionSpec`), as its module gave them."""
  return nn.get_partition_spec(_boxed(config))


def _boxed(config: DecoderConfig) -> dict[str, Any]:
  ids = np.zeros((1, 1), np.int32)
  init = lambda: Decoder(config).init(jax.random.key(0), ids, ids, ids, method="init_all")  # noqa: E731
  return jax.eval_shape(init)["params"]


def unboxed(tree: Any) -> Any:
  """Shapes without their axes' names. (Flax's own `unbox` would lay shapes out over a mesh in use.)"""
  is_box = lambda node: isinstance(node, nn.meta.AxisMetadata)  # noqa: E731
  return jax.tree.map(lambda box: box.value if is_box(box) else box, tree, is_leaf=is_box)
