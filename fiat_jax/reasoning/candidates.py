"""Wordings of an instruction to choose from: the one that is set, those of a file, those that the big model writes."""

from __future__ import annotations

import dataclasses
import pathlib
import random
import re
from collections.abc import Sequence
from typing import Literal

from fiat_jax import prompts
from fiat_jax.data.rows import Row
from fiat_jax.errors import UserError
from fiat_jax.reasoning.estimate import room_taken
from fiat_jax.reasoning.in_context import WARMTH
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Asking, Request
from fiat_jax.settings import Settings

Sought = Literal["instruction", "reasoning_instruction"]
SEPARATOR = "---"  # a line between two wordings in a file
EXAMPLES, EXCERPT = 5, 800  # rows that a proposal is shown, and letters of each one's input
READERS = {
  "instruction": "a small language model, which then answers at once",
  "reasoning_instruction": "a large language model, which then reasons and ends with its answer",
}
ENDINGS = {
  "instruction": "It says what is to be done and what the answer has to look like.",
  "reasoning_instruction": "It says how to reason, and, word for word as the one above, how the answer is to be given "
  "at the end: a program reads it from there.",
}
PROPOSAL = """This instruction, with an input in the place of {{x}}, goes to {reader}:

{now}

These are some of the inputs, with the right answers:

{examples}

Write another instruction (wording {number} of {count}) that leads to more right answers on all such inputs. It \
mentions none of these inputs and answers. {ending} Write nothing but the instruction, without any input."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
  """A wording, a whole template, and who wrote it: the `settings`, a `file`, or `beta`."""

  text: str
  by: Literal["settings", "file", "beta"]


def count(settings: Settings, sought: Sought) -> int:
  """How many the big model is to propose."""
  return getattr(settings, f"propose_{sought}s")


def given(settings: Settings, sought: Sought) -> list[Candidate]:
  """Those of the file that the settings name. Raises UserError as `read`."""
  file = getattr(settings, f"try_{sought}s")
  return read(file, sought) if file else []


def read(file: str, sought: Sought) -> list[Candidate]:
  """The wordings of a text file.

  Raises:
    UserError: there are none, one is empty, stands twice, or is no template for its purpose.
  """
  try:
    lines = pathlib.Path(file).read_text(encoding="utf-8-sig").splitlines()
  except (OSError, UnicodeDecodeError) as e:
    raise UserError(
      f"cannot be read ({e}): give a text file of instructions, lines of --- between them", file
    ) from None
  if not any(line.strip() and line.strip() != SEPARATOR for line in lines):
    raise UserError("holds no instruction: write some, lines of --- between them", file)
  ends = [n for n, line in enumerate(lines) if line.strip() == SEPARATOR]
  places: dict[str, int] = {}
  for start, end in zip([0, *(n + 1 for n in ends)], [*ends, len(lines)], strict=True):
    text, line = "\n".join(lines[start:end]).strip("\n"), start + 1
    if not text.strip():
      raise UserError("there is no instruction between two lines of ---: write one, or remove a line", file, line)
    if text in places:
      raise UserError(f"the same instruction stands on line {places[text]} already: remove one", file, line)
    try:
      check(text, sought)
    except UserError as e:
      raise UserError(str(e), file, line) from None
    places[text] = line
  return [Candidate(text=text, by="file") for text in places]


def check(text: str, sought: Sought) -> None:
  """Raises UserError for a text that is no template for its purpose."""
  if sought == "instruction":
    prompts.tuned_prompt(text, use_instruction=True, use_reasoning=False)
  else:
    ReasoningPrompt.parse(text)


def apart(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
  """Those of the training rows that proposals may be shown: none with an input or a group of the others."""
  inputs, groups = {row.x for row in others}, {row.group for row in others}
  return [row for row in rows if row.x not in inputs and row.group not in groups]


def proposals(settings: Settings, reasoner: Reasoner, sought: Sought, rows: Sequence[Row]) -> list[Request]:
  """The requests for as many wordings as are to be proposed, each shown other rows.

  Raises:
    UserError: not even the instruction alone fits into the model's context.
  """
  asking = Asking(
    beta=reasoner.name,
    endpoint=reasoner.endpoint,
    template=settings.beta_template,
    length=settings.reasoning_length,
    temperature=settings.temperature or WARMTH,
  )
  room = None if reasoner.context is None else reasoner.context - settings.reasoning_length
  found = []
  for number in range(count(settings, sought)):
    drawn = random.Random(f"{settings.split_seed} {number}").sample(range(len(rows)), min(EXAMPLES, len(rows)))
    shown = [rows[n] for n in drawn]
    prompt = _proposal(settings, sought, number, shown)
    while room is not None and room_taken(reasoner, [prompt])[0] > room:
      if not shown:
        raise UserError(f"no wording can be asked for: --{sought} alone is longer than what the big model takes")
      shown.pop()
      prompt = _proposal(settings, sought, number, shown)
    found.append(Request(asking=asking, prompt=prompt, sample=number, row=f"{sought} {number}", lang="und"))
  return found


def _proposal(settings: Settings, sought: Sought, number: int, shown: Sequence[Row]) -> str:
  return PROPOSAL.format(
    reader=READERS[sought],
    now=getattr(settings, sought),
    examples="\n\n".join(f"Input: {_excerpt(row.x)}\nAnswer: {row.targets[0]}" for row in shown),
    number=number + 1,
    count=count(settings, sought),
    ending=ENDINGS[sought],
  )


def _excerpt(x: str) -> str:
  return x if len(x) <= EXCERPT else f"{x[:EXCERPT]} …"


def proposed(text: str, now: str) -> Candidate | None:
  """A wording as the big model wrote it, before what follows the words in the one that there is; None of no words."""
  words = re.sub(r"^```\w*\n|\n```$", "", text.strip()).strip().strip('"').strip()
  parts = re.split(r"\{(?:x|exemplars|reasoning)\}", words)  # it may have copied the fields
  words = next((part.strip() for part in parts if part.strip()), "")
  if not words:
    return None
  words = words.replace("{", "{{").replace("}", "}}")
  return Candidate(text=f"{words}\n\n{_rest(now)}", by="beta")


def _rest(template: str) -> str:
  """A template from its first field on."""
  pieces = prompts.parse(template)
  first = next(n for n, piece in enumerate(pieces) if isinstance(piece, prompts.Field))
  return "".join(
    f"{{{piece.name}}}" if isinstance(piece, prompts.Field) else piece.replace("{", "{{").replace("}", "}}")
    for piece in pieces[first:]
  )
