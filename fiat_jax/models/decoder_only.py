"""Decoder-only models as a `Family`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fiat_jax.models import decoder, registry
from fiat_jax.models.config import DecoderConfig
from fiat_jax.models.fused import Kernel
from fiat_jax.models.registry import Leaf, Naming


@dataclasses.dataclass(frozen=True)
class DecoderOnly:
  """A `Family`."""

  config: DecoderConfig
  task: str = "CAUSAL_LM"
  start_id: int | None = None

  @property
  def room(self) -> int | None:
    return self.config.max_length

  def leaves(self, naming: Naming = "hugging_face") -> list[Leaf]:
    return registry.decoder_leaves(self.config)  # no other naming is in use

  def shapes(self) -> dict[str, Any]:
    return registry.parameter_shapes(self.config)

  def axes(self) -> dict[str, Any]:
    return registry.parameter_axes(self.config)

  def units(self) -> dict[str, int]:
    c = self.config
    return {"embed": c.width, "heads": c.heads, "kv": c.kv_heads, "mlp": c.ffn_width, "vocab": c.vocab_size}

  def unstack(self, params: Mapping[str, Any], *, consumes: bool = False) -> dict[str, Any]:
    return decoder.unstack({"params": params}, self.config.layers, consumes=consumes)

  def with_adapter(self, weights: Mapping[str, Any], adapter: Mapping[str, Any]) -> dict[str, Any]:
    return decoder.with_adapter(weights, adapter)

  def bytes_a_token(self, length: int, remat: str = "none") -> int:
    # Per layer a dozen of the model's width (hidden states, norms, projections), five of the feed-forward width, and
    # the probabilities of every head; at the end logits, their softmax and their gradient in f32, as if all were
    # targets. What is computed again is there for one layer at a time.
    c, size = self.config, self.config.compute_dtype.itemsize
    layer = size * (12 * c.width + 5 * c.ffn_width) + 8 * c.heads * length
    kept = {"none": layer, "dots": size * (5 * c.width + 2 * c.ffn_width), "full": size * c.width}[remat]
    return c.layers * kept + (layer if remat != "none" else 0) + 3 * 4 * c.vocab_size

  def bytes_a_row(self, prompt: int, targets: int) -> int:
    # What a layer keeps of each token: hidden states, projections, FFN, and half a row of f32 attention weights a head;
    # logits and their gradient.
    c = self.config
    kept = 2 * (8 * c.width + 2 * (c.heads + 2 * c.kv_heads) * c.head_dim + 4 * c.ffn_width) + 2 * c.heads * prompt
    return prompt * c.layers * kept + 8 * targets * c.vocab_size

  def with_kernel(self, module: decoder.Decoder, kernel: Kernel) -> decoder.Decoder:
    return module.clone(kernel=kernel)
