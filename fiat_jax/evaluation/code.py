"""HumanEval (Chen et al., 2021) as INSTRUCTEVAL scores it: of an answer, the first function, run against the tests."""

from __future__ import annotations

from fiat_jax.evaluation import sandbox

COMPLETION = "# <completion>\n"  # stands in a target, a program with tests, where the answer goes
INDENT = 2


def pass_at_1(prediction: str, target: str) -> float:
  """Whether the program that is the target, with the answer in its place, runs to its end.

  Raises:
    UserError: programs cannot be confined on this system.
  """
  return 100.0 * sandbox.passes(target.replace(COMPLETION, completion(prediction) + "\n", 1))


def completion(answer: str) -> str:
  """The answer up to its first blank line, odd indents made even: tokenizers lose the blank that begins an answer."""
  lines = []
  for line in answer.split("\n"):
    odd = (len(line) - len(line.lstrip(" "))) % INDENT
    lines.append(" " * odd + line)
  return "\n".join(lines).lstrip("\n").split("\n\n")[0]
