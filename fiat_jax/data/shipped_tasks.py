"""The tasks under `gin/tasks/` as SeqIO tasks, for any SeqIO trainer to name. TensorFlow stays here."""

from __future__ import annotations

import seqio

from fiat_jax import prompts
from fiat_jax.data.features import rows_task
from fiat_jax.data.task_files import files, layout, settings
from fiat_jax.data.task_vocabularies import BYTES, T5


def register(task: str, *, reasoning: bool = False) -> list[seqio.Task]:
  """Registers `{task}_fine_tuning`, and with recorded `reasoning` `{task}_fiat`, over bytes and over T5's vocabulary.

  T5's are `{task}_t5_…`; its file is read when the task is. The rows must have been prepared.

  Raises:
    UserError: they are not; the command that prepares them.
  """
  found = settings(task)
  recipes = {"fine_tuning": False} | ({"fiat": True} if reasoning else {})
  vocabularies: dict[str, seqio.Vocabulary] = {task: BYTES, f"{task}_t5": T5}
  return [
    rows_task(
      f"{prefix}_{recipe}",
      files(found),
      layout(found),
      prompts.tuned_prompt(found["INSTRUCTION"], use_instruction=True, use_reasoning=use_reasoning),
      inputs=vocabulary,
      targets=vocabulary,
    )
    for prefix, vocabulary in vocabularies.items()
    for recipe, use_reasoning in recipes.items()
  ]
