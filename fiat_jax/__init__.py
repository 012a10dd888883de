"""FIAT: fine-tune a small model on a big model's reasoning, and find out whether that is what your data needs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from fiat_jax.tuned import Tuned

__all__ = ["load"]


def load(run: str | os.PathLike[str], *, model: str = "") -> Tuned:
  """The tuned model of a run or an export: `load("runs/mine/fiat").predict([{"question": …, "reasoning": …}])`.

  Args:
    run: its folder. Of exports those of the formats peft and huggingface.
    model: the base of an adapter that was exported, where that was trained on a folder or file.

  Raises:
    fiat_jax.errors.UserError: there is no run, it has no checkpoint, or its model is not to be had or is another now.
  """
  from fiat_jax import tuned  # JAX is imported by who asks for a model

  return tuned.load(run, model=model)
