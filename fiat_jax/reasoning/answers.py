"""Reading the big model's own answer out of its reasoning."""

from __future__ import annotations

import dataclasses

import regex

from fiat_jax.errors import UserError

SECONDS = 1.0  # a pattern that takes longer on one text counts as no match


@dataclasses.dataclass(frozen=True)
class AnswerRule:
  """A regular expression with a group named `answer`; the last match in the text counts."""

  pattern: regex.Pattern[str]

  @classmethod
  def parse(cls, text: str) -> AnswerRule:
    try:
      pattern = regex.compile(text, regex.MULTILINE)
    except regex.error as e:
      raise UserError(f"--answer {text!r} is no regular expression: {e}") from None
    if "answer" not in pattern.groupindex:
      raise UserError(f"--answer {text!r} has no group named answer: write (?P<answer>…) around the answer")
    return cls(pattern)

  def read(self, reasoning: str) -> str | None:
    """The answer, or None where the reasoning holds none."""
    try:
      matches = list(self.pattern.finditer(reasoning, timeout=SECONDS))
    except TimeoutError:
      return None
    answer = matches[-1]["answer"] if matches else None
    return answer.strip() or None if answer else None
