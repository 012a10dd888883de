"""A row exactly as the model receives it: string, ids, marks, and which of it carries loss."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Callable, Sequence

from fiat_jax import prompts
from fiat_jax.data.rows import Row
from fiat_jax.data.tokenizer import Tokenizer

Paint = Callable[[str], str]  # how what carries loss is set off

WIDTH = 112


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
  """One row in training: the prompt, and the target with its end mark, which carries the loss."""

  prompt: str
  target: str
  prompt_ids: Sequence[int]
  target_ids: Sequence[int]


def colour(text: str) -> str:
  """Bold green, for a terminal."""
  return f"\x1b[1;32m{text}\x1b[0m"


def brackets(text: str) -> str:
  """For everything that is no terminal."""
  return f"⟦{text}⟧"


def example(tokenizer: Tokenizer, template: prompts.Template, row: Row) -> Example:
  """What `data/tokenise.py` writes for a row in a recipe's form, and the strings that it comes from."""
  text = prompts.fill(template, {"x": row.x, "reasoning": row.reasoning or ""})
  begin, after = ("".join(map(tokenizer.token, ids)) for ids in tokenizer.marks_around())
  end = [] if tokenizer.end_id is None else [tokenizer.end_id]
  return Example(
    prompt=begin + tokenizer.prompt_string(text) + after,
    target=row.targets[0] + "".join(map(tokenizer.token, end)),
    prompt_ids=tokenizer.encode_prompt(text),
    target_ids=[*tokenizer.encode(row.targets[0]), *end],
  )


def lines(tokenizer: Tokenizer, shown: Example, paint: Paint) -> list[str]:
  """The example to be read: marks, string, ids."""
  return [
    f"  chat template: {tokenizer.template_source or 'none, plain text'}",
    f"  begin marks: {_count(tokenizer, tokenizer.bos_id, shown.prompt_ids)}",
    f"  end marks: {_count(tokenizer, tokenizer.end_id, shown.prompt_ids)} in the prompt, "
    f"{_count(tokenizer, tokenizer.end_id, shown.target_ids)} with loss",
    f"  the string ({paint('this')} carries loss):",
    shown.prompt + paint(shown.target),
    f"  the ids: {len(shown.prompt_ids)} of the prompt, {len(shown.target_ids)} with loss:",
    *_wrapped(shown.prompt_ids),
    *(paint(line) for line in _wrapped(shown.target_ids)),
  ]


def _count(tokenizer: Tokenizer, mark: int | None, ids: Sequence[int]) -> str:
  return "0" if mark is None else f"{list(ids).count(mark)} ({tokenizer.token(mark)})"


def _wrapped(ids: Sequence[int]) -> list[str]:
  return textwrap.wrap(" ".join(map(str, ids)), WIDTH)
