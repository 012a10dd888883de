"""Word problems whose answer is a number: GSM8K (Cobbe et al., 2021) and MGSM (Shi et al., 2023)."""

from __future__ import annotations

from collections.abc import Iterator

from fiat_jax.errors import UserError
from fiat_jax.evaluation.numbers import last_number
from fiat_jax.preparation.files import Files, rows, text_lines
from fiat_jax.preparation.sets import Part

MGSM_LANGUAGES = ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")


def gsm8k(files: Files) -> Iterator[Part]:
  """The answer stands behind `####`; the solution before it is people's, and no reasoning of a model."""
  for split in ("train", "test"):
    for record in rows(files.only(rf"{split}\.jsonl")):
      solution, mark, answer = record.text("answer").rpartition("####")
      if not mark or last_number(answer) is None:
        raise record.fault("the field 'answer' does not end in #### and a number")
      row = {"id": f"{split}-{record.line}", "lang": "en", "question": record.text("question")}
      yield Part("", split, {**row, "solution": solution.strip(), "target": answer.strip().replace(",", "")})


def mgsm(files: Files) -> Iterator[Part]:
  """250 of GSM8K's test problems in eleven languages: a line is a problem, a tab and its answer."""
  for file, match in files.find(r"mgsm_(\w\w)\.tsv"):
    for number, (line, text) in enumerate(text_lines(file), 1):
      question, tab, answer = text.rpartition("\t")
      if not tab or last_number(answer) is None:
        raise UserError("is no problem, tab and number: it is not the format of the set", file, line)
      row = {"id": f"{match[1]}-{number}", "lang": match[1], "group": f"problem-{number}"}
      yield Part("", "test", {**row, "question": question, "target": answer.strip().replace(",", "")})
