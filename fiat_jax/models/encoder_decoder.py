"""Encoder–decoders (T5) as a `Family`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fiat_jax.models import t5_cached
from fiat_jax.models.fused import Kernel
from fiat_jax.models.registry import Leaf, Naming
from fiat_jax.models.t5 import T5, T5Config
from fiat_jax.models.t5_registry import t5_axes, t5_leaves, t5_shapes, t5x_leaves


@dataclasses.dataclass(frozen=True)
class EncoderDecoder:
  """A `Family`. Positions are relative: any number of tokens has places."""

  config: T5Config
  task: str = "SEQ_2_SEQ_LM"
  room: int | None = None

  @property
  def start_id(self) -> int | None:
    return self.config.start_id

  def leaves(self, naming: Naming = "hugging_face") -> list[Leaf]:
    return t5x_leaves(self.config) if naming == "t5x" else t5_leaves(self.config)

  def shapes(self) -> dict[str, Any]:
    return t5_shapes(self.config)

  def axes(self) -> dict[str, Any]:
    return t5_axes(self.config)

  def units(self) -> dict[str, int]:
    c = self.config
    return {"embed": c.width, "heads": c.heads, "mlp": c.ffn_width, "vocab": c.vocab_size}

  def unstack(self, params: Mapping[str, Any], *, consumes: bool = False) -> dict[str, Any]:
    return t5_cached.unstack({"params": params}, consumes=consumes)

  def with_adapter(self, weights: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, Any]:
    return t5_cached.with_adapter(weights, adapter)

  def bytes_a_token(self, length: int, remat: str = "none") -> int:
    # As of a decoder-only model, for a token of the decoder, whose layers have attention twice: it takes the most.
    c, size = self.config, self.config.compute_dtype.itemsize
    ffn = (5 if c.gated else 3) * c.ffn_width
    layer = size * (18 * c.width + ffn) + 16 * c.heads * length
    products = size * (9 * c.width + (2 if c.gated else 1) * c.ffn_width)
    kept = {"none": layer, "dots": products, "full": size * c.width}[remat]
    again = layer if remat != "none" else 0
    return max(c.encoder_layers, c.decoder_layers) * kept + again + 3 * 4 * c.vocab_size

  def bytes_a_row(self, prompt: int, targets: int) -> int:
    # As of a decoder-only model, in both stacks; the encoder's attention is not halved by causality, and the decoder's
    # layers have it twice, once over the prompt.
    c = self.config
    inner, ffn = c.heads * c.head_dim, (4 if c.gated else 3) * c.ffn_width
    encoder = 2 * (8 * c.width + 6 * inner + ffn) + 4 * c.heads * prompt
    decoder = 2 * (12 * c.width + 8 * inner + ffn) + 4 * c.heads * (prompt + targets)
    cross = 2 * 2 * inner * prompt  # keys and values of the encoder's states, in each of the decoder's layers
    layers = c.encoder_layers * prompt * encoder + c.decoder_layers * (targets * decoder + cross)
    return layers + 8 * targets * c.vocab_size

  def with_kernel(self, module: T5, kernel: Kernel) -> T5:
    return module  # the plain one is all there is
