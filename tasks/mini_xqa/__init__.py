"""SeqIO tasks over the shipped set, for any SeqIO trainer to name.

Importing this module registers `mini_xqa_fiat`, `mini_xqa_fine_tuning` (FIAT without reasoning) and `mini_xqa_spans`
(span corruption over the passages) over bytes (ByT5's vocabulary, which needs no file), and the same with the prefix
`mini_xqa_t5` over T5's SentencePiece file, which is read when the task is. `register` makes them over another one.
"""

from __future__ import annotations

import pathlib

import seqio

from fiat_jax import prompts
from fiat_jax.data.features import rows_task
from fiat_jax.data.rows import Layout
from fiat_jax.data.spans import span_corruption_task
from fiat_jax.data.task_vocabularies import BYTES, T5
from fiat_jax.macros import read_macros

FOLDER = pathlib.Path(__file__).parent
SPLITS = ("train", "validation", "test")


def register(prefix: str, vocabulary: seqio.Vocabulary) -> list[seqio.Task]:
  """Registers `{prefix}_fiat` and `{prefix}_fine_tuning` over one vocabulary for prompts and targets."""
  texts = read_macros(FOLDER.parent.parent / "gin" / "tasks" / "mini_xqa.gin")
  files = {split: str(FOLDER / f"{split}.jsonl") for split in SPLITS}
  spans = span_corruption_task(f"{prefix}_spans", files, Layout(input="{passage}"), vocabulary)
  return [spans] + [
    rows_task(
      f"{prefix}_{recipe}",
      files,
      Layout(input=texts["INPUT"].default),
      prompts.tuned_prompt(texts["INSTRUCTION"].default, use_instruction=True, use_reasoning=use_reasoning),
      inputs=vocabulary,
      targets=vocabulary,
    )
    for recipe, use_reasoning in (("fiat", True), ("fine_tuning", False))
  ]


TASKS = register("mini_xqa", BYTES)
TASKS += register("mini_xqa_t5", T5)
