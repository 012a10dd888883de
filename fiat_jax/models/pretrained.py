"""A pretrained model in memory: module, parameters, tokenizer."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models.family import Family, Module, family_of, module_for
from fiat_jax.models.lora import LoraConfig

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Description:
  """What is known of a checkpoint before its weights are read."""

  path: pathlib.Path
  module: Module
  tokenizer: Tokenizer
  fingerprint: str

  @property
  def family(self) -> Family:
    return family_of(self.module)


def describe(path: pathlib.Path, *, dtype: str, lora: LoraConfig, plain: bool = False) -> Description:
  """Reads configuration and vocabulary; `plain`, without the chat template.

  Raises:
    UserError: the checkpoint is broken, of an unknown architecture, or its vocabulary does not fit its embedding.
  """
  if dtype not in DTYPES:
    raise UserError(f"the dtype {dtype!r} is not supported: give one of {', '.join(DTYPES)}")
  source = open_checkpoint(path)
  module = module_for(source.config, str(path), dtype, lora)
  rows = module.config.vocab_size
  tokenizer = Tokenizer.load(path, plain=plain)
  if tokenizer.vocab_size > rows:
    raise UserError(
      f"its tokenizer has {tokenizer.vocab_size} ids and its embedding {rows} rows: they do not belong together",
      path,
    )
  return Description(path, module, tokenizer, source.fingerprint)


def load(description: Description) -> dict[str, Any]:
  """The tree `params`, kept in the configuration's dtype."""
  source, family = open_checkpoint(description.path), description.family
  return load_params(source, family.leaves(source.naming), family.shapes(), description.module.config.dtype)
