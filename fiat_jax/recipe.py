"""A recipe: which way of learning, as a handful of switches, so that a comparison changes one at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

from fiat_jax.errors import UserError

Trained = Literal["lora", "rslora", "dora", "ia3", "prompt", "full", "none"]
ModelSetting = Literal["model", "base_model"]
ReasoningForm = Literal["whole", "answer", "shuffled", "truncated", "unanswered", "wrong"]
OF_TRAINING = ("OPTIMIZER", "LEARNING_RATE", "SCHEDULE", "WARMUP", "WEIGHT_DECAY", "CLIP", "BATCH", "STEPS", "EPOCHS")
OWN = (  # settings that a recipe may have of its own
  *OF_TRAINING,
  *("LORA_RANK", "LORA_ALPHA", "LORA_SCALING", "LORA_DROPOUT", "LORA_TARGETS", "MODEL"),
  *("INSTRUCTION", "REASONING_INSTRUCTION", "SHOTS"),
)
RATES: Mapping[Trained, float] = {  # peak learning rates that suit what is tuned; all weights want a tenth of LoRA's
  **dict.fromkeys(("lora", "rslora", "dora"), 0.001),
  "ia3": 0.003,  # Liu et al., 2022, §3.3
  "prompt": 0.03,  # PEFT's example of prompt tuning
  "full": 0.0001,
}
ADAFACTOR_RATE = 0.001  # T5's, for all weights, which Adafactor scales by their size
CHOICES = {
  "adapter": get_args(Trained),
  "adapted": ("attention", "linear"),
  "reasoning_form": get_args(ReasoningForm),
  "in_context": ("", "beta", "model"),
  "exemplars": ("none", "shown", "nearest"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
  """One way of learning (FIAT §2, its ablations and what it is compared with, Tables 2 and 3).

  Attributes:
    instruction: the tuned model reads I_τ around x, else x alone.
    reasoning: the tuned model reads β's reasoning.
    reasoning_form: it reads all of it (`whole`), or the `answer` alone that is read out of it, which is left to copy;
      or, to learn what reasoning has to be like, another row's (`shuffled`), its first half (`truncated`), all but the
      answer (`unanswered`), or a `wrong` answer in place of it (`reasoning/forms.py`).
    adapter: what is tuned: `lora`; `rslora`, which is LoRA scaled by alpha / √rank; `dora`; `ia3`; a soft `prompt` of
      PROMPT_TOKENS; `full` (all parameters); or `none`.
    adapted: which projections get LoRA, rsLoRA or DoRA: those of LORA_TARGETS (`attention`: its query and value), or
      every `linear` one of the layers.
    instruction_tuned: it works on MODEL, else on BASE_MODEL, which no instruction was trained into.
    distils: each example is learned twice, its answer and β's reasoning, which nobody is asked for afterwards
      (Distilling step-by-step; Hsieh et al., 2023).
    begins_with: the recipe from whose tuned parameters it starts; empty: from none.
    answer_of_beta: the prediction is β's own answer, parsed from its reasoning; no model runs.
    in_context: nothing is tuned, and `beta` or the `model` itself is asked with what follows; empty: it is not so.
    exemplars: rows that are shown before each: `none`, SHOTS of them as SHOT_CHOICE says (`shown`), the `nearest` ones.
    thinks: it reasons step by step (REASONING_INSTRUCTION) and ends with the answer; else it answers at once.
    votes: it answers several times, and the majority's answer counts (self-consistency).
    overrides: settings that are its own: those of `OWN`, with values.
    title: what tables call it.
  """

  instruction: bool = True
  reasoning: bool = False
  reasoning_form: ReasoningForm = "whole"
  adapter: Trained = "lora"
  adapted: Literal["attention", "linear"] = "attention"
  instruction_tuned: bool = True
  distils: bool = False
  begins_with: str = ""
  answer_of_beta: bool = False
  in_context: Literal["", "beta", "model"] = ""
  exemplars: Literal["none", "shown", "nearest"] = "none"
  thinks: bool = False
  votes: bool = False
  overrides: dict[str, float | int | str] = dataclasses.field(default_factory=dict, hash=False)
  title: str = ""

  def __post_init__(self):
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(field.default, bool) and not isinstance(value, bool):
        raise UserError(f"the recipe's {field.name} is {value!r}: give True or False")
      if field.name in CHOICES and value not in CHOICES[field.name]:
        given = ", ".join(choice or "''" for choice in CHOICES[field.name])
        raise UserError(f"the recipe's {field.name} is {value!r}: give one of {given}")
    if not isinstance(self.overrides, dict) or not set(self.overrides) <= set(OWN):
      raise UserError(f"the recipe's overrides are {self.overrides!r}: give a dictionary of some of {', '.join(OWN)}")
    if self.distils and self.reasoning:
      raise UserError(f"the recipe {self.title!r} both reads reasoning and is to write it: choose one")
    if self.in_context and (self.adapter != "none" or self.reasoning):
      raise UserError(
        f"the recipe {self.title!r} is asked in context: its adapter is 'none', and it reads no reasoning"
      )

  @property
  def model_setting(self) -> ModelSetting:
    """The setting that names the model it works on; without a meaning where no model runs."""
    return "model" if self.instruction_tuned else "base_model"

  def learning_rate(self, optimizer: str) -> float:
    """The peak learning rate where none is given; where nothing is tuned, LoRA's."""
    if self.adapter == "full" and optimizer == "adafactor":
      return ADAFACTOR_RATE
    return RATES.get(self.adapter, RATES["lora"])

  @property
  def adapts(self) -> bool:
    """Whether an adapter is tuned, beside weights that stay as they came."""
    return self.adapter not in ("full", "none") and not self.answer_of_beta

  @property
  def trains(self) -> bool:
    return self.adapter != "none" and not self.answer_of_beta

  @property
  def needs_reasoning(self) -> bool:
    """Whether every answer needs one of β."""
    return self.reasoning or self.answer_of_beta

  @property
  def asks_beta(self) -> bool:
    """Whether every answer costs one of β."""
    return self.needs_reasoning or self.in_context == "beta"

  @property
  def runs_model(self) -> bool:
    """Whether MODEL or BASE_MODEL answers."""
    return not self.answer_of_beta and self.in_context != "beta"

  @property
  def reads_rows(self) -> bool:
    """Whether that model reads the tokenised rows; in context it is asked with prompts of their own."""
    return self.runs_model and not self.in_context
