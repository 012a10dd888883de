"""The module as training runs it: noise on embeddings, what is kept for the backward pass, which attention."""

from __future__ import annotations

from fiat_jax import sharding
from fiat_jax.models import fused
from fiat_jax.models.family import Module, family_of
from fiat_jax.settings import Settings


def for_training(module: Module, settings: Settings) -> Module:
  """The same model with NEFTUNE, REMAT and ATTENTION.

  Raises:
    UserError: fused attention is asked for where there is none.
  """
  module = module.clone(neftune=settings.neftune, remat=settings.remat)
  kernel = fused.kernel(settings.attention, module, sharding.platform())
  return family_of(module).with_kernel(module, kernel)
