"""The sets of Distilling step-by-step (Hsieh et al., 2023), with the reasoning of PaLM 540B that it recorded.

A split is `NAME/NAME_SPLIT.json`, an object a line; the reasoning of its rows, in their order, is the lists of texts in
`NAME/llm/SPLIT_CoT_0.json`, `…_1.json` and so on. PaLM sometimes went on with a next example: that is cut off.
"""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable, Iterator

from fiat_jax.errors import UserError
from fiat_jax.evaluation.numbers import value
from fiat_jax.preparation.files import Files, Record, rows, whole
from fiat_jax.preparation.sets import Part

SPLITS = {"train": "train", "valid": "validation", "test": "test"}
NLI = {0: "entailment", 1: "neutral", 2: "contradiction"}
BETA = "palm-540b"


def wanted(name: str) -> str:
  return rf"{name}/(?:{name}_(?:train|valid|test)|llm/(?:train|valid|test)_CoT_\d+)\.json"


def _convert(name: str, begins_next: str, make: Callable[[Record], dict], files: Files) -> Iterator[Part]:
  for file, match in files.find(rf"{name}_(train|valid|test)\.json"):
    said, count = _reasoning(files, name, match[1], begins_next), 0
    for count, record in enumerate(rows(file), 1):
      if count <= len(said):
        row = {"id": f"{match[1]}-{count}", "lang": "en", **make(record)}
        yield Part("", SPLITS[match[1]], {**row, "reasoning": said[count - 1], "beta_model": BETA})
    if len(said) != count:
      raise UserError(f"has {count:,} rows, and {len(said):,} have reasoning: the set is not whole", file)


def _reasoning(files: Files, name: str, split: str, begins_next: str) -> list[str]:
  parts = [(int(match[1]), file) for file, match in files.find(rf"{name}/llm/{split}_CoT_(\d+)\.json")]
  return [text.split(begins_next)[0].strip() for _, file in sorted(parts) for text in _texts(file)]


def _texts(file: pathlib.Path) -> list[str]:
  texts = whole(file)
  if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
    raise UserError("is no list of texts: it is not the format of the set", file)
  return texts


def _commonsense(record: Record) -> dict:
  question, choices = record.text("question"), record.texts("choices")
  listed = "\n".join(f"({letter}) {choice}" for letter, choice in zip("abcde", choices, strict=False))
  return {
    "input": f"{question}\nAnswer Choices:\n{listed}",
    "choices": choices,
    "target": record.text("answer"),
  }


def _svamp(record: Record) -> dict:
  """The release's label is the equation; the target is its value."""
  equation = record.text("label")
  answer = value(equation)
  if answer is None:
    raise record.fault(f"the equation {equation!r} cannot be worked out")
  return {
    "input": record.text("input"),
    "equation": equation,
    "target": str(int(answer) if answer.is_integer() else answer),
  }


def _nli(record: Record) -> dict:
  row = {name: record.text(name) for name in ("premise", "hypothesis")}
  explanations = {"explanation": record.text("explanation_1")} if "explanation_1" in record else {}
  return {**row, **explanations, "target": record.one_of("label", NLI)}


commonsense_qa = functools.partial(_convert, "cqa", "Q:", _commonsense)
svamp = functools.partial(_convert, "svamp", "Q:", _svamp)
esnli = functools.partial(_convert, "esnli", "Premise:", _nli)
anli = functools.partial(_convert, "anli1", "Premise:", _nli)
