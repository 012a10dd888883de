"""Answers that are a number, at the end of a text or alone."""

from __future__ import annotations

import ast
import operator
import re

_NUMBER = re.compile(r"(?:(?<!\d)[-−])?(?:\d+(?:[,٬]\d{3})*(?:[.٫]\d+)?|[.٫]\d+)")  # 2010-2015 has no minus
_PLAIN = str.maketrans({",": None, "٬": None, "٫": ".", "−": "-"})

LONGEST = 200  # characters of arithmetic that an answer may hold
OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def last_number(text: str) -> float | None:
  """The last number of a text, in the digits of any script, commas between thousands left out; None without one."""
  found = _NUMBER.findall(text)
  return float(found[-1].translate(_PLAIN)) if found else None


def value(text: str) -> float | None:
  """What arithmetic such as `( 84 / 2 )` comes to; None where the text is anything else, or has no value."""
  try:
    return _worked_out(ast.parse(text.strip(), mode="eval").body) if len(text) <= LONGEST else None
  except (SyntaxError, ValueError, ArithmeticError, RecursionError):
    return None


def number(prediction: str, target: str) -> float:
  """100 where the prediction's last number, or its value as arithmetic, is the target's (GSM8K, MGSM, SVAMP)."""
  found, wanted = value(prediction), last_number(target)
  found = last_number(prediction) if found is None else found
  return 100.0 * (found is not None and found == wanted)


def _worked_out(node: ast.expr) -> float:
  if isinstance(node, ast.Constant) and type(node.value) in (int, float):
    return float(node.value)  # pyright: ignore[reportArgumentType]  a number, by the line above
  if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
    return OPERATORS[type(node.op)](_worked_out(node.left), _worked_out(node.right))
  if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
    return -_worked_out(node.operand)
  raise ValueError("no arithmetic")
