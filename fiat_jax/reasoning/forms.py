"""Reasoning in another form: of all that the big model wrote a recipe may read its answer alone, or something worse.

The rows in that form are a path like any other (`data/reasoned.py`): `train.jsonl[reasoned by …/answer-1f….jsonl]`.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence

from fiat_jax.data.reasoned import Reasoned, row_key
from fiat_jax.data.rows import Row, digest
from fiat_jax.errors import UserError
from fiat_jax.reasoning import request
from fiat_jax.reasoning.answers import AnswerRule, same
from fiat_jax.resources import cache_folder
from fiat_jax.whole import writing

BY_ANSWER = ("answer", "unanswered", "wrong")  # forms that need an answer to be read out of the reasoning
OF_OTHER_ROWS = ("shuffled", "wrong")  # forms that take something from other rows, or from targets
GAP = "…"  # what stands where the answer stood
VERSION = 2  # of how forms are made, so that no older ones are found in the cache
LETTER = r"\([A-Za-z]\)\s*"  # of a choice, before its text: it tells as much as that


def path_of(path: str, rows: Iterable[Row], form: str, rule: str, seed: int, labels: str | tuple[str, ...] = "") -> str:
  """The path of the same rows with their reasoning in that form.

  Args:
    path: of the rows, with their reasoning.
    rows: what stands there.
    form: `Recipe.reasoning_form`, not `whole`.
    rule: how an answer is read (`AnswerRule`).
    seed: of what is drawn.
    labels: of the layout that the rows were read by.

  Raises:
    UserError: no reasoning holds an answer, and the form needs one.
  """
  named = request.digest([digest(path), form, rule, str(seed), labels, VERSION])[:32]
  file = cache_folder("reasoning") / f"{form}-{named}.jsonl"
  if not file.exists():
    every = list(rows)
    if form in BY_ANSWER and not any(answer_of(row, rule) for row in every):
      raise UserError("no answer could be read out of any row's reasoning: give its pattern with --answer", path)
    found = dict(zip((row_key(row.x) for row in every), texts(every, form, rule, seed), strict=True))
    with writing(file) as out:
      out.write(json.dumps({"form": form, "answers": rule}) + "\n")
      for row, text in found.items():
        out.write(json.dumps({"row": row, "reasoning": text}, ensure_ascii=False) + "\n")
  return f"{path}[{Reasoned(str(file), False)}]"


def texts(rows: Sequence[Row], form: str, rule: str, seed: int) -> list[str]:
  """The reasoning of every row in that form.

  `answer`: the parsed answer alone, empty where none is found. `shuffled`: that of another row. `truncated`: the first
  half of its words. `unanswered`: a gap wherever the parsed answer stands. `wrong`: there another of the row's choices
  or, without those, another row's answer, if it was right. A choice's letter goes with its text: `(c) cow`. What holds
  no answer stays as it is in the last two.
  """
  given, answers = [row.reasoning or "" for row in rows], [answer_of(row, rule) for row in rows]
  if form == "answer":
    return answers
  if form == "shuffled":
    return _passed_on(given, seed)
  if form == "truncated":
    return [_half(text) for text in given]
  if form == "unanswered":
    return [_replaced(text, answer, GAP) for text, answer in zip(given, answers, strict=True)]
  others = _other_answers(rows, answers, seed)
  return [
    _replaced(text, answer, _as_written(other, row.x)) if any(same(answer, target) for target in row.targets) else text
    for row, text, answer, other in zip(rows, given, answers, others, strict=True)
  ]


def answer_of(row: Row, rule: str) -> str:
  """The answer in its reasoning; empty where there is none."""
  return AnswerRule.parse(rule).read(row.reasoning or "") or ""


def _passed_on(given: Sequence[str], seed: int) -> list[str]:
  """Each row gets what the next one had, in an order that is drawn: none keeps its own."""
  order = list(range(len(given)))
  random.Random(seed).shuffle(order)
  passed = [""] * len(given)
  for place, number in enumerate(order):
    passed[number] = given[order[place - 1]]
  return passed


def _half(text: str) -> str:
  words = text.split()
  return " ".join(words[: len(words) // 2])


def _replaced(text: str, answer: str, other: str) -> str:
  whole = rf"(?:{LETTER})?(?<!\w){re.escape(answer)}(?!\w)"
  return re.sub(whole, lambda _: other, text, flags=re.IGNORECASE) if answer else text


def _as_written(choice: str, x: str) -> str:
  """With its letter, where it stands in the row's input with one."""
  found = re.search(rf"{LETTER}{re.escape(choice)}(?!\w)", x)
  return found[0] if found else choice


def _other_answers(rows: Sequence[Row], answers: Sequence[str], seed: int) -> list[str]:
  """For each row one of its choices, or an answer that some row has, which is not its own; without any, a gap."""
  generator, every = random.Random(seed), sorted({answer for answer in answers if answer})
  found = []
  for row, answer in zip(rows, answers, strict=True):
    known = row.labels or every
    start = generator.randrange(len(known)) if known else 0
    others = (other for other in (*known[start:], *known[:start]) if not same(other, answer))
    found.append(next(others, GAP))
  return found
