"""Reading the big model's own answer out of its reasoning, and voting among several."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence

import regex

from fiat_jax.errors import UserError
from fiat_jax.reasoning.canonical import canonical

SECONDS = 1.0  # a pattern that takes longer on one text counts as no match
LAST_LINE = "last_line"
AFTER = "after:"
SHORT_WORDS, SHORT = 6, 60  # words and letters of a last line that may be an answer
AROUND = " \t*_`\"'"
NUMBER = regex.compile(r"(?<![\w.,])[-−]?\p{Sc}?\d+(?:[.,٫٬/]\d+)*%?(?!\w)")


@dataclasses.dataclass(frozen=True)
class AnswerRule:
  """A regular expression with a group named `answer`; the last match in the text counts."""

  pattern: regex.Pattern[str]

  @classmethod
  def parse(cls, text: str) -> AnswerRule:
    """Of a regular expression, of `last_line`, or of `after:MARKER`: the rest of the line behind its last place."""
    if text == LAST_LINE:
      return cls(regex.compile(r"(?P<answer>[^\n]*\S)\s*\Z"))
    if text.startswith(AFTER) and text != AFTER:
      return cls(regex.compile(rf".*{regex.escape(text[len(AFTER) :])}(?P<answer>.*)$", regex.MULTILINE))
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


def read_leniently(reasoning: str, labels: Sequence[str] = ()) -> str | None:
  """What may be the answer where the rule finds none. It is counted and shown apart, and never used.

  Of a row with choices, the one that the last line is, or the only one in it; else the only number in the last line;
  else the last line itself where it is short. None where it is none of these.
  """
  line = (AnswerRule.parse(LAST_LINE).read(reasoning) or "").strip(AROUND).rstrip(AROUND + ".:。")
  if labels:
    return named(line, labels)
  numbers = NUMBER.findall(line)
  if len(numbers) == 1:
    return numbers[0]
  return line if line and len(line.split()) <= SHORT_WORDS and len(line) <= SHORT else None


def named(answer: str, labels: Sequence[str]) -> str | None:
  """Which of a row's choices an answer names: the one that it is, or the only one in it; None where it is not one."""
  found = [label for label in labels if same(label, answer)] or [label for label in labels if _stands_in(label, answer)]
  return found[0] if len(found) == 1 else None


def chosen(answer: str, labels: Sequence[str]) -> str:
  """The choice that an answer names, as it is written among the row's; else the answer as it stands."""
  return (named(answer, labels) if answer else None) or answer


def _stands_in(label: str, line: str) -> bool:
  """Whether it is a word or words of the line; of one letter, as it is written: `a` is an article, `A` a choice."""
  flags = regex.IGNORECASE if len(label) > 1 else 0
  return bool(regex.search(rf"(?<!\w){regex.escape(label)}(?!\w)", line, flags))


def same(answer: str, target: str) -> bool:
  """Whether an answer is the target: the same number, or the same text but for how it is written (`canonical.py`)."""
  return canonical(answer) == canonical(target)


def vote(answers: Sequence[str | None]) -> tuple[int, int] | None:
  """The number of the first sample that has the majority's answer, and how many have it (self-consistency).

  Answers agree where they are the `same`. Of those that are equally frequent, the one that came first wins; samples
  without an answer do not vote.
  """
  forms = [None if answer is None else canonical(answer) for answer in answers]
  counts = collections.Counter(form for form in forms if form is not None)
  if not counts:
    return None
  ((winner, count),) = counts.most_common(1)
  return forms.index(winner), count
