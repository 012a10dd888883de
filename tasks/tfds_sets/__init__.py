"""SeqIO tasks over sets of TensorFlow Datasets, `tfds_NAME` over bytes and `tfds_NAME_t5` over T5's SentencePiece file.

TFDS fetches a set when its task is first read. The versions are pinned: another one may have other rows.
"""

from __future__ import annotations

import tensorflow as tf

from fiat_jax.data.task_files import settings
from fiat_jax.data.task_vocabularies import BYTES, T5
from fiat_jax.data.tfds_tasks import TfdsSet, joined, labelled, register

NLI = joined("Premise: {premise}\n\nHypothesis: {hypothesis}")
ALL = {"train": "train", "validation": "validation", "test": "test"}


def copa_choice(example):
  """The text of the choice that is right."""
  return tf.where(example["label"] == 0, example["choice1"], example["choice2"])


# The gin file whose instruction a set takes, and the set.
SETS = {
  "gsm8k": ("gsm8k", TfdsSet(
    name="gsm8k:1.0.0",
    splits={"train": "train", "test": "test"},
    x=joined("{question}"),
    target=lambda example: tf.strings.regex_replace(example["short_answer"], ",", ""),
  )),
  **{
    f"anli_r{n}": ("anli", TfdsSet(
      name=f"anli/r{n}:0.1.0",
      splits=ALL,
      x=joined("Premise: {context}\n\nHypothesis: {hypothesis}"),
      target=labelled("entailment", "neutral", "contradiction"),
    ))
    for n in (1, 2, 3)
  },
  "esnli": ("esnli", TfdsSet(
    name="esnli:0.1.0", splits=ALL, x=NLI, target=labelled("entailment", "neutral", "contradiction"),
  )),
  "tydi_qa": ("tydi_qa", TfdsSet(
    name="tydi_qa/goldp:3.0.0",
    splits={"train": "train", "test": "validation"},
    x=joined("question: {question} context: {context}"),
    target=lambda example: example["answers"]["text"][0],
  )),
  "copa": ("xcopa", TfdsSet(
    name="super_glue/copa:1.0.2",
    splits={"train": "train", "validation": "validation"},
    x=lambda example: tf.strings.join([
      "Premise: ",
      example["premise"],
      "\n\n",
      tf.where(example["question"] == "cause", "What was the cause?", "What happened as a result?"),
    ]),
    target=copa_choice,
  )),
}  # fmt: skip

TASKS = [
  register(f"tfds_{name}{over}", source, settings(task)["INSTRUCTION"], vocabulary)
  for over, vocabulary in (("", BYTES), ("_t5", T5))
  for name, (task, source) in SETS.items()
]
