"""Choices between two or more texts, or free answers, one file a language or task: XCOPA, BIG-Bench Hard."""

from __future__ import annotations

from collections.abc import Iterator

from fiat_jax.errors import UserError
from fiat_jax.preparation.converters import few_shot
from fiat_jax.preparation.files import Files, rows, whole_object
from fiat_jax.preparation.sets import Part

XCOPA_LANGUAGES = ("et", "ht", "id", "it", "qu", "sw", "ta", "th", "tr", "vi", "zh")
ASKED = {"cause": "What was the cause?", "effect": "What happened as a result?"}
BBH_TASKS = 27
BBH_ROWS = 6511
CODEX = "code-davinci-002"


def xcopa(files: Files) -> Iterator[Part]:
  """XCOPA (Ponti et al., 2020): translations of an item belong together."""
  for file, match in files.find(r"data/(et|ht|id|it|qu|sw|ta|th|tr|vi|zh)/(val|test)\.\1\.jsonl"):
    split = "validation" if match[2] == "val" else match[2]
    for record in rows(file):
      number, choices = record.number("idx"), [record.text("choice1"), record.text("choice2")]
      row = {"id": f"{match[1]}-{match[2]}-{number}", "lang": match[1], "group": f"{match[2]}-{number}"}
      row |= {"premise": record.text("premise"), "asked": record.one_of("question", ASKED), "choices": choices}
      yield Part("", split, {**row, "target": record.one_of("label", dict(enumerate(choices)))})


def bbh(files: Files) -> Iterator[Part]:
  """BIG-Bench Hard (Suzgun et al., 2022) with Codex's recorded reasoning, in the view `recorded`."""
  for file, match in files.find(r"bbh/(\w+)\.json"):
    examples = whole_object(file).inner("examples")
    (answered, _), *_ = files.find(rf"code-davinci-002-cot/{match[1]}_few_shot_template_0-255000\.json")
    outputs = whole_object(answered).inner("outputs")
    if len(outputs) != len(examples):
      raise UserError(f"has {len(outputs)} outputs, and the task {len(examples)} examples", answered)
    for number, (example, output) in enumerate(zip(examples, outputs, strict=True), 1):
      question = example.text("input")
      if question.strip() not in output.text("input"):
        raise UserError(f"output {number} is not of example {number} of {match[1]}: another version", answered)
      row = {"id": f"{match[1]}-{number}", "task": match[1], "input": question, "target": example.text("target")}
      yield Part("recorded", "all", {**row, "reasoning": output.text("prediction").strip(), "beta_model": CODEX})
    for row in few_shot.bbh(match[1], examples):
      yield Part("few_shot", "test", row)
