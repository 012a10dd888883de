"""I_β: what the big model is asked about a row, exemplars before it. Chat formats are the tokenizer's or endpoint's.

An exemplar is written as the row is, with its reasoning where the row's is to come:

    instruction … {exemplars} … x of an exemplar, what follows {x}, its reasoning … x, what follows {x}
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from fiat_jax import prompts
from fiat_jax.data.rows import Row
from fiat_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class ReasoningPrompt:
  """The template in three pieces: before the exemplars, between them and x, behind x."""

  before: str
  between: str
  behind: str

  @classmethod
  def parse(cls, text: str) -> ReasoningPrompt:
    """Raises UserError where `{x}` is missing or anything but `{exemplars}`, before it, stands beside it."""
    template = prompts.parse(text, ("x", "exemplars"))
    names = prompts.fields(template)
    if names not in (["x"], ["exemplars", "x"]):
      raise UserError(
        f"--reasoning_instruction {text!r} holds {', '.join(f'{{{name}}}' for name in names) or 'no field'}: it is to "
        "hold {x}, the place of the input, once, and {exemplars} before it or not at all"
      )
    pieces = [""]
    for piece in template:
      if isinstance(piece, prompts.Field):
        pieces.append("")
      else:
        pieces[-1] += piece
    before, *between, behind = pieces
    return cls(before, between[0] if between else "", behind)

  def head(self, shots: Sequence[Row] = ()) -> str:
    """What stands before the input."""
    blank = "" if self.behind[-1:].isspace() or not self.behind else " "
    written = [f"{shot.x}{self.behind}{blank}{shot.reasoning}\n\n" for shot in shots]
    return "".join([self.before, *written, self.between])

  def render(self, x: str, shots: Sequence[Row] = ()) -> str:
    """The whole prompt; what a row holds beside its input is no part of it, its target least of all."""
    return f"{self.head(shots)}{x}{self.behind}"
