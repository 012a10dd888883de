"""Reasoning in another form: of all that the big model wrote a recipe may read its answer alone.

The rows in that form are a path like any other (`data/reasoned.py`): `train.jsonl[reasoned by …/answers-1f….jsonl]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from fiat_jax.data.reasoned import Reasoned, row_key
from fiat_jax.data.rows import Row, digest
from fiat_jax.errors import UserError
from fiat_jax.reasoning import request
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.resources import cache_folder
from fiat_jax.whole import writing


def answers_of(path: str, rows: Iterable[Row], rule: str) -> str:
  """The path of the same rows with the big model's parsed answer for reasoning, empty where none is found.

  Args:
    path: of the rows, with their reasoning.
    rows: what stands there.
    rule: how an answer is read (`AnswerRule`).

  Raises:
    UserError: no reasoning holds an answer.
  """
  file = cache_folder("reasoning") / f"answers-{request.digest([digest(path), rule])[:32]}.jsonl"
  if not file.exists():
    found = {row_key(row.x): answer_of(row, rule) for row in rows}
    if not any(found.values()):
      raise UserError("no answer could be read out of any row's reasoning: give its pattern with --answer", path)
    with writing(file) as out:
      out.write(json.dumps({"answers": rule}) + "\n")
      for row, answer in found.items():
        out.write(json.dumps({"row": row, "reasoning": answer}, ensure_ascii=False) + "\n")
  return f"{path}[{Reasoned(str(file), False)}]"


def answer_of(row: Row, rule: str) -> str:
  """The answer in its reasoning; empty where there is none."""
  return AnswerRule.parse(rule).read(row.reasoning or "") or ""
