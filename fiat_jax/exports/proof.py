"""`parity.jsonl`: what a tuned model answers to a few rows, so that another program can be held against it."""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import jax

from fiat_jax.decoding.request import Request
from fiat_jax.recipe import Recipe
from fiat_jax.workbench import Workbench

ROWS = 5
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25}  # of a token's log-probability, between two programs
MODEL_CLASS = {"CAUSAL_LM": "AutoModelForCausalLM", "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM"}  # transformers' names


def parity(bench: Workbench, recipe: Recipe, trained: Any, split: str) -> list[dict[str, Any]]:
  """The greedy answers of the tuned model to the first `ROWS` rows of a split, with all that asks for them again.

  Returns:
    Of each row `id` and its columns (`row`; the reasoning as it was read), the exact `prompt`, its `ids`, how many
    new tokens there is `room` for, and the answer's `tokens` (without the end mark), their `logprobs` and their
    `text`; the `tolerance` of those, in the type `dtype`, and the `model_class` that loads such a model in
    transformers.
  """
  settings, model = bench.settings, bench.models.of(recipe)
  rows, shard = bench.rows[split][:ROWS], bench.shards.of(split, recipe)
  requests = [
    Request(tokens=shard[number].inputs.tolist(), max_new_tokens=settings.target_length) for number in range(len(rows))
  ]
  with jax.default_matmul_precision("highest"):  # TPUs and GPUs round the factors of f32 products, where they may
    answers = bench.models.engine(recipe, trained).generate(requests)
  return [
    {
      "id": row.id,
      "row": dict(row.fields) | ({settings.reasoning: row.reasoning} if recipe.reasoning else {}),
      "prompt": bench.templates.prompt(recipe, bench.shards.read(split, recipe)[number]),
      "ids": list(request.tokens),
      "room": request.max_new_tokens,
      "tokens": answer.tokens,
      "logprobs": [round(value, 6) for value in answer.logprobs],
      "text": model.tokenizer.decode(answer.tokens),
      "dtype": settings.dtype,
      "tolerance": TOLERANCE[settings.dtype],
      "model_class": MODEL_CLASS[model.family.task],
    }
    for number, (row, request, answer) in enumerate(zip(rows, requests, answers, strict=True))
  ]


def write_proof(folder: pathlib.Path, rows: list[dict[str, Any]], *, script: bool) -> None:
  """Writes `parity.jsonl` and, where asked, the script `check.py` that repeats it with transformers and peft alone."""
  lines = (json.dumps(row, ensure_ascii=False) for row in rows)
  (folder / "parity.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
  if script:
    shutil.copyfile(pathlib.Path(__file__).with_name("check.py"), folder / "check.py")
