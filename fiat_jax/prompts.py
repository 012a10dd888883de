"""Prompt templates: x over a row's columns, I_τ around x and the reasoning. Chat formats are the tokenizer's.

A template is plain text with fields in braces, `{name}`; a doubled brace stands for itself.
"""

from __future__ import annotations

import dataclasses
import difflib
import string
from collections.abc import Iterable, Mapping

from fiat_jax.errors import UserError

REASONING_PARAGRAPH = "\n\nReasoning: {reasoning}"
PREDICT, EXPLAIN = "predict: ", "explain: "  # which of two things a prompt asks for (Hsieh et al., 2023, §3.2)


@dataclasses.dataclass(frozen=True)
class Field:
  """A place in a template that a column of that name fills."""

  name: str


Template = tuple[str | Field, ...]


def parse(text: str, allowed: Iterable[str] | None = None) -> Template:
  """A template's literal pieces and fields, in order.

  Raises:
    UserError: unbalanced braces, or a field that is not in `allowed`.
  """
  pieces: list[str | Field] = []
  try:
    for literal, name, spec, conversion in string.Formatter().parse(text):
      if literal:
        pieces.append(literal)
      if name is None:
        continue
      if spec or conversion or not name:
        raise ValueError("a field is a column's name in braces and nothing else")
      pieces.append(Field(name))
  except ValueError as e:
    raise UserError(f"the template {text!r} cannot be read: {e}; a brace that is meant as text is doubled") from None
  if allowed is not None:
    known = sorted(allowed)
    for piece in pieces:
      if isinstance(piece, Field) and piece.name not in known:
        raise UserError(f"the template {text!r} names {{{piece.name}}}: {nearest(piece.name, known)}")
  return tuple(pieces)


def fill(template: Template, values: Mapping[str, str]) -> str:
  """The text of a template with its fields filled in."""
  return "".join(values[piece.name] if isinstance(piece, Field) else piece for piece in template)


def fields(template: Template) -> list[str]:
  return [piece.name for piece in template if isinstance(piece, Field)]


def tuned_prompt(instruction: str, *, use_instruction: bool, use_reasoning: bool, prefix: str = "") -> Template:
  """I_τ as a recipe wants it: fields `x`, and `reasoning` where the recipe uses it.

  Without the instruction, x stands alone. The reasoning goes to `{reasoning}` if the instruction holds it, else into a
  paragraph of its own at the end; without reasoning, the line that holds `{reasoning}` is left out. All of it stands
  behind `prefix`.

  Raises:
    UserError: the instruction does not hold `{x}`, or not apart from the reasoning, or names another field.
  """
  if "x" not in fields(parse(instruction, ("x", "reasoning"))):
    raise UserError(f"the instruction {instruction!r} does not hold {{x}}, the place where the input goes: add it")
  text = instruction if use_instruction else "{x}"
  if use_reasoning and "reasoning" not in fields(parse(text)):
    text += REASONING_PARAGRAPH
  if not use_reasoning:
    text = _without_reasoning(text)
    if "x" not in fields(parse(text)):
      raise UserError(
        f"the instruction {instruction!r} holds {{x}} and {{reasoning}} on one line, which is left out where a recipe "
        "has no reasoning: give {reasoning} a line of its own"
      )
  return parse(prefix + text, ("x", "reasoning"))


def _without_reasoning(text: str) -> str:
  """Leaves out the line that holds `{reasoning}`, and the blank line after it where one stands before it too."""
  kept: list[str] = []
  left_out = False
  for line in text.split("\n"):
    if "reasoning" in fields(parse(line)):
      left_out = True
    elif line.strip() or not left_out or (kept and kept[-1].strip()):
      kept.append(line)
      left_out = False
  return "\n".join(kept).rstrip("\n")


def nearest(name: str, known: Iterable[str]) -> str:
  """`unknown; did you mean …?`, or the list of what there is."""
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  return f"unknown; did you mean {close[0]}?" if close else f"unknown; there is {', '.join(known) or 'nothing'}"
