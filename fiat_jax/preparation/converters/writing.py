"""What INSTRUCTEVAL has models write: HumanEval's functions and IMPACT's texts."""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterator

from fiat_jax.errors import UserError
from fiat_jax.evaluation.code import COMPLETION
from fiat_jax.preparation.files import Files, packed_rows, rows
from fiat_jax.preparation.sets import Part

HUMANEVAL_ROWS, IMPACT_ROWS = 164, 200


def humaneval(files: Files) -> Iterator[Part]:
  """Chen et al., 2021: a target is the whole program but for the answer, whose place is marked."""
  for record in packed_rows(files.only(r"HumanEval\.jsonl(?:\.gz)?")):
    prompt, tests = record.text("prompt"), f"{record.text('test')}\ncheck({record.text('entry_point')})\n"
    row = {"id": record.text("task_id"), "lang": "en", "prompt": prompt}
    yield Part("", "test", {**row, "target": f"{prompt}{COMPLETION}{tests}"})


def impact(files: Files) -> Iterator[Part]:
  """Chia et al., 2023: the targets are what the judge is asked about relevance and about coherence.

  Both are read out of INSTRUCTEVAL's own file, which is never run.
  """
  relevance, coherence = _judgements(files.only(r"subjective\.py"))
  for record in rows(files.only(r"data\.jsonl")):
    prompt = record.text("Prompt")
    row = {"id": str(record.line), "kind": f"{record.text('Category').lower()}_writing"}
    row |= {"definition": record.text("Definition"), "prompt": prompt}
    yield Part("", "test", {**row, "target": [relevance.replace("{prompt}", prompt), coherence]})


def _judgements(file: pathlib.Path) -> tuple[str, str]:
  """The two texts that are called `template`: the one that holds the prompt, and the other."""
  try:
    nodes = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Assign)]
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    raise UserError("is no Python that can be read: fetch it again", file) from None
  named = [node.value for node in nodes if [getattr(target, "id", "") for target in node.targets] == ["template"]]
  texts = [node.value for node in named if isinstance(node, ast.Constant) and isinstance(node.value, str)]
  texts = sorted((text for text in texts if "{text}" in text), key=lambda text: "{prompt}" not in text)
  if ["{prompt}" in text for text in texts] != [True, False]:
    raise UserError("holds no two texts `template`, one with {prompt}: another version", file)
  return texts[0], texts[1]
