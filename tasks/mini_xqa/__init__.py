"""SeqIO tasks over the shipped set: `mini_xqa_fiat` and `mini_xqa_fine_tuning` (FIAT without reasoning).

Importing this module registers both over bytes (ByT5's vocabulary, which needs no file), so that any SeqIO trainer can
name them. `register` makes the same tasks over another vocabulary.
"""

from __future__ import annotations

import pathlib

import seqio

from fiat_jax import prompts
from fiat_jax.data.features import rows_task
from fiat_jax.data.rows import Layout
from fiat_jax.macros import read_macros

FOLDER = pathlib.Path(__file__).parent
SPLITS = ("train", "validation", "test")


def register(prefix: str, vocabulary: seqio.Vocabulary) -> list[seqio.Task]:
  """Registers `{prefix}_fiat` and `{prefix}_fine_tuning` over one vocabulary for prompts and targets."""
  texts = read_macros(FOLDER.parent.parent / "gin" / "tasks" / "mini_xqa.gin")
  files = {split: str(FOLDER / f"{split}.jsonl") for split in SPLITS}
  return [
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


TASKS = register("mini_xqa", seqio.ByteVocabulary())
