"""A T5X folder does not say which model it holds: under a published name it is held against that model's shape."""

from __future__ import annotations

from fiat_jax import progress
from fiat_jax.checkpoints.t5x_store import is_t5x
from fiat_jax.models import catalogue
from fiat_jax.models.pretrained import Description
from fiat_jax.models.t5 import T5Config
from fiat_jax.models.t5_registry import t5_config


def check_t5x(name: str, description: Description) -> None:
  """Compares a T5X folder with the model that the user called it; of one without a name, tells what it is taken for.

  Raises:
    UserError: its leaves are not those of the published model, such as where the last layers are missing.
  """
  config = description.module.config
  if not isinstance(config, T5Config) or not is_t5x(description.path):
    return
  from fiat_jax.checkpoints.t5x import T5XCheckpoint
  from fiat_jax.checkpoints.t5x_config import in_words

  if name not in catalogue.MODELS:
    progress.say(f"{description.path}: taken for {in_words(config)}")
    return
  published = t5_config(catalogue.MODELS[name].config, description.path, config.dtype)
  if config != published:
    T5XCheckpoint(description.path).check(published, name)
