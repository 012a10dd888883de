"""A pretrained model in memory: module, parameters, tokenizer."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models import registry
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.families import decoder_config
from fiat_jax.models.lora import LoraConfig

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Description:
  """What is known of a checkpoint before its weights are read."""

  path: pathlib.Path
  module: Decoder
  tokenizer: Tokenizer
  fingerprint: str


def describe(path: pathlib.Path, *, dtype: str, lora: LoraConfig, plain: bool = False) -> Description:
  """Reads configuration and vocabulary; `plain`, without the chat template.

  Raises:
    UserError: the checkpoint is broken, of an unknown architecture, or its vocabulary does not fit its embedding.
  """
  if dtype not in DTYPES:
    raise UserError(f"the dtype {dtype!r} is not supported: give one of {', '.join(DTYPES)}")
  source = open_checkpoint(path)
  config = decoder_config(source.config, str(path), dtype)
  tokenizer = Tokenizer.load(path, plain=plain)
  if tokenizer.vocab_size > config.vocab_size:
    raise UserError(
      f"its tokenizer has {tokenizer.vocab_size} ids and its embedding {config.vocab_size} rows: they do not belong "
      "together",
      path,
    )
  return Description(path, Decoder(config, lora), tokenizer, source.fingerprint)


def load(description: Description) -> dict[str, Any]:
  """The tree `params`, kept in the configuration's dtype."""
  config = description.module.config
  source = open_checkpoint(description.path)
  return load_params(source, registry.decoder_leaves(config), registry.parameter_shapes(config), config.dtype)
