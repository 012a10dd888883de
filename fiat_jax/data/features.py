"""Rows as a SeqIO task with instruction-augmented and reasoning-augmented features. TensorFlow stays here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import seqio
import tensorflow as tf

from fiat_jax import prompts
from fiat_jax.data.rows import Layout, Row, read_rows

Preprocessor = Callable[..., Any]  # tf.data.Dataset → tf.data.Dataset; SeqIO's decorator hides the types


def augment(reasoning: Mapping[str, str]) -> Preprocessor:
  """Preprocessor: adds the feature `reasoning`, β's text for the example of that `id`; empty where there is none."""
  reasoning = {"": "", **reasoning}  # a table must not be empty, and no id is
  table = tf.lookup.StaticHashTable(
    tf.lookup.KeyValueTensorInitializer(
      tf.constant(list(reasoning.keys()), tf.string), tf.constant(list(reasoning.values()), tf.string)
    ),
    default_value="",
  )

  @seqio.map_over_dataset
  def add_reasoning(example):
    return {**example, "reasoning": table.lookup(example["id"])}

  return add_reasoning


def instruct(template: prompts.Template) -> Preprocessor:
  """Preprocessor: `inputs` becomes the template with the example's text features filled in."""

  @seqio.map_over_dataset
  def fill(example):
    pieces = [example[p.name] if isinstance(p, prompts.Field) else tf.constant(p) for p in template]
    return {**example, "inputs": tf.strings.join(pieces)}

  return fill


def rows_task(
  name: str,
  files: Mapping[str, str],
  layout: Layout,
  template: prompts.Template,
  *,
  inputs: seqio.Vocabulary,
  targets: seqio.Vocabulary,
  labelled: bool = True,
) -> seqio.Task:
  """Registers the SeqIO task `name` over JSONL files, one a split.

  Its examples hold token ids `inputs` (the whole prompt) and `targets` (the first target and the end mark), with the
  texts they come from as `inputs_pretokenized` and `targets_pretokenized`, and `id`, `lang`, `group`. Rows that are
  not `labelled` may lack a target; theirs is empty.
  """
  rows = {split: read_rows(path, layout, labelled=labelled) for split, path in files.items()}
  reasoning = {row.id: row.reasoning for split in rows.values() for row in split if row.reasoning}
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(  # pyright: ignore[reportArgumentType]  SeqIO's own type is too narrow
      lambda split, shuffle_files=False, seed=None: _dataset(rows[split]),
      splits=tuple(files),
      num_input_examples={split: len(split_rows) for split, split_rows in rows.items()},
    ),
    preprocessors=[
      augment(reasoning),
      instruct(template),
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos,
    ],
    output_features={
      "inputs": seqio.Feature(inputs, add_eos=False),
      "targets": seqio.Feature(targets, add_eos=True),
    },
  )


def _dataset(rows: list[Row]) -> tf.data.Dataset:
  columns: Any = {
    "id": [row.id for row in rows],
    "lang": [row.lang for row in rows],
    "group": [row.group for row in rows],
    "x": [row.x for row in rows],
    "targets": [row.targets[0] if row.targets else "" for row in rows],
  }
  return tf.data.Dataset.from_tensor_slices(columns)
