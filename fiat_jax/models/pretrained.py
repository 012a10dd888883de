"""A pretrained model: what is known of it before its weights are read, and those."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

from fiat_jax import sharding
from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models.family import Family, Module, family_of, module_for
from fiat_jax.models.lora import LoraConfig


@dataclasses.dataclass(frozen=True)
class Description:
  """What is known of a checkpoint before its weights are read."""

  path: str
  module: Module
  tokenizer: Tokenizer
  fingerprint: str
  kernels: str = ""  # how those of the layers are kept (`quantized.quantize`); empty: in the module's dtype

  @property
  def family(self) -> Family:
    return family_of(self.module)


def describe(
  path: str | pathlib.Path,
  *,
  dtype: str,
  lora: LoraConfig,
  plain: bool = False,
  tokenizer: pathlib.Path | None = None,
  kernels: str = "",
) -> Description:
  """Reads configuration and vocabulary; `plain`, without the chat template. The tokenizer may lie elsewhere.

  `kernels`: how those of the layers will be kept (`quantized.quantize`); empty: in `dtype`.

  Raises:
    UserError: the checkpoint is broken, of an unknown architecture or not computed in `dtype`, or its vocabulary does
      not fit its embedding.
  """
  source = open_checkpoint(path)
  module = module_for(source.config, str(path), dtype, lora)
  rows = module.config.vocab_size
  sharding.of_params(family_of(module))  # refused here, before anything is read
  vocabulary = Tokenizer.load(tokenizer or path, plain=plain)
  if vocabulary.vocab_size > rows:
    raise UserError(
      f"its tokenizer has {vocabulary.vocab_size} ids and its embedding {rows} rows: they do not belong together",
      path,
    )
  return Description(str(path), module, vocabulary, source.fingerprint, kernels)


def load(description: Description) -> dict[str, Any]:
  """The tree `params`, kept in the configuration's dtype, or its kernels quantized, where the mesh in use wants it."""
  source, family = open_checkpoint(description.path), description.family
  lies, dtype = sharding.of_params(family), description.module.config.dtype
  return load_params(source, family.leaves(source.naming), family.shapes(), dtype, lies, kernels=description.kernels)


class Weights:
  """A model's weights, read when they are first asked for and in memory as long as this is."""

  def __init__(self, of: Description):
    self.of = of

  def are_of(self, described: Description) -> bool:
    """Whether these are the weights of what is described, however its text is encoded and whatever adapter it has."""
    module = described.module.clone(lora=self.of.module.lora)
    return dataclasses.replace(described, module=module, tokenizer=self.of.tokenizer) == self.of

  @functools.cached_property
  def params(self) -> Mapping[str, Any]:
    """The tree that training scans, layers stacked."""
    return load(self.of)

  def layers(self) -> Mapping[str, Any]:
    """The same one layer at a time, as decoding walks them: a copy that is in memory as long as somebody decodes."""
    return self.of.family.unstack(self.params)
