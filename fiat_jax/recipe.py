"""A recipe: which way of learning, as a handful of switches, so that a comparison changes one at a time."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

from fiat_jax.errors import UserError

Trained = Literal["lora", "full", "none"]
ModelSetting = Literal["model", "base_model"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """One way of learning (FIAT §2 and its ablations, Table 3).

  Attributes:
    instruction: the tuned model reads I_τ around x, else x alone.
    reasoning: the tuned model reads β's reasoning.
    adapter: `lora`, `full` (all parameters), or `none`: nothing is tuned.
    instruction_tuned: it works on MODEL, else on BASE_MODEL, which no instruction was trained into.
    answer_of_beta: the prediction is β's own answer, parsed from its reasoning; no model runs.
    title: what tables call it.
  """

  instruction: bool = True
  reasoning: bool = False
  adapter: Trained = "lora"
  instruction_tuned: bool = True
  answer_of_beta: bool = False
  title: str = ""

  def __post_init__(self):
    for switch in ("instruction", "reasoning", "instruction_tuned", "answer_of_beta"):
      if not isinstance(getattr(self, switch), bool):
        raise UserError(f"the recipe's {switch} is {getattr(self, switch)!r}: give True or False")
    if self.adapter not in get_args(Trained):
      raise UserError(f"the recipe's adapter is {self.adapter!r}: give one of {', '.join(get_args(Trained))}")

  @property
  def model_setting(self) -> ModelSetting:
    """The setting that names the model it works on; without a meaning where no model runs."""
    return "model" if self.instruction_tuned else "base_model"

  @property
  def trains(self) -> bool:
    return self.adapter != "none" and not self.answer_of_beta

  @property
  def needs_reasoning(self) -> bool:
    return self.reasoning or self.answer_of_beta
