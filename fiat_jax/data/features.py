"""Rows as a SeqIO task with instruction-augmented and reasoning-augmented features. TensorFlow stays here."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import seqio
import tensorflow as tf

from fiat_jax import prompts
from fiat_jax.data import vocabularies
from fiat_jax.data.rows import Layout, Row, iter_rows

Preprocessor = Callable[..., Any]  # tf.data.Dataset → tf.data.Dataset; SeqIO's decorator hides the types

BATCH_ROWS = 512


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


def shown(count: int) -> Preprocessor:
  """Preprocessor: before x stand the next `count` examples, each with its target; the last ones are shown fewer."""

  def preprocess(dataset: Any) -> Any:
    def asked(window: Mapping[str, Any]) -> Any:
      return tf.data.Dataset.zip({name: part.batch(count + 1) for name, part in window.items()}).map(first)

    def first(examples: Mapping[str, Any]) -> Mapping[str, Any]:
      others = tf.strings.join([examples["x"][1:], "\n", examples["targets"][1:], "\n\n"])
      alone = {name: values[0] for name, values in examples.items()}
      return {**alone, "x": tf.strings.reduce_join(others) + alone["x"]}

    return dataset.window(count + 1, shift=1).flat_map(asked)

  return preprocess


def together(dataset: Any) -> Any:
  """Preprocessor: many rows become one example; `augment` and `instruct` do to it what they do to a row."""
  return dataset.batch(BATCH_ROWS)


@seqio.add_kwargs_to_transform
def tokenize_together(dataset: Any, output_features: Mapping[str, Any]) -> Any:
  """Preprocessor: what SeqIO's `tokenize` and `append_eos` do, after `together`, and the rows apart again."""

  def encode(examples):
    encoded = {**examples}
    for name, feature in output_features.items():
      encoded[f"{name}_pretokenized"] = examples[name]
      encoded[name] = vocabularies.encode_batch_tf(feature.vocabulary, examples[name], end=feature.add_eos)
    return encoded

  def as_ids(example):
    return {name: tf.io.decode_raw(v, tf.int32) if name in output_features else v for name, v in example.items()}

  return dataset.map(encode).prefetch(2).unbatch().map(as_ids)


def rows_task(
  name: str,
  files: Mapping[str, str | Sequence[Row]],
  layout: Layout,
  template: prompts.Template,
  *,
  inputs: seqio.Vocabulary,
  targets: seqio.Vocabulary,
  labelled: bool = True,
  explains: bool = False,
  cut: Callable[[Sequence[Row]], Sequence[str]] | None = None,
  shots: int = 0,
) -> seqio.Task:
  """Registers the SeqIO task `name` over files of rows, one a split, which are checked at once and read as asked for.

  In the place of a file, rows may be given that were read already. Its examples hold token ids `inputs` (the whole
  prompt) and `targets` (the first target and the end mark), with the texts they come from as `inputs_pretokenized` and
  `targets_pretokenized`, and `id`, `lang`, `group`. Rows that are not `labelled` may lack a target; theirs is empty.
  Where the task `explains`, the reasoning is the target. `cut` makes the x of rows shorter; `truncated` says of which.
  Before x stand so many other rows as `shots`.
  """
  uses_reasoning = "reasoning" in prompts.fields(template)
  counts, reasoning = dict.fromkeys(files, 0), {}
  for split, source in files.items():
    for row in _rows(source, layout, labelled):
      counts[split] += 1
      if uses_reasoning and row.reasoning:
        reasoning[row.id] = row.reasoning
  texts = [*([shown(shots)] if shots else []), augment(reasoning), instruct(template)]
  in_batches = all(isinstance(vocabulary, vocabularies.TextVocabulary) for vocabulary in (inputs, targets))
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(  # pyright: ignore[reportArgumentType]  SeqIO's own type is too narrow
      lambda split, shuffle_files=False, seed=None: dataset_of_rows(
        files[split], layout, labelled, cut, explains=explains
      ),
      splits=tuple(files),
      num_input_examples=counts,
    ),
    preprocessors=[together, *texts, tokenize_together]
    if in_batches and not shots
    else [*texts, seqio.preprocessors.tokenize, seqio.preprocessors.append_eos],
    output_features={
      # A vocabulary of the checkpoint's own writes its prompt's marks itself; to another T5's end mark is added.
      "inputs": seqio.Feature(inputs, add_eos=not isinstance(inputs, vocabularies.TextVocabulary)),
      "targets": seqio.Feature(targets, add_eos=True),
    },
  )


def batches(task: seqio.Task, split: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
  """A task's examples in order, many at a time: tensors [B], or ragged [B, (S)]; far cheaper than one by one."""
  dataset: Any = task.get_dataset(None, split, shuffle=False, num_epochs=1)
  yield from dataset.map(lambda example: {name: example[name] for name in names}).ragged_batch(BATCH_ROWS)


def _rows(source: str | Sequence[Row], layout: Layout, labelled: bool) -> Iterator[Row]:
  return iter_rows(source, layout, labelled=labelled) if isinstance(source, str) else iter(source)


def dataset_of_rows(
  source: str | Sequence[Row],
  layout: Layout,
  labelled: bool,
  cut: Callable[[Sequence[Row]], Sequence[str]] | None = None,
  *,
  explains: bool = False,
) -> tf.data.Dataset:
  """The texts of a file of rows, or of rows in hand, one example a row.

  They are `x`, `targets` (the first; where it `explains`, the reasoning), `id`, `lang`, `group`, `truncated`.
  """

  def target(row: Row) -> str:
    return (row.reasoning or "") if explains else row.targets[0] if row.targets else ""

  def batches() -> Iterator[dict[str, Sequence[Any]]]:
    rows = _rows(source, layout, labelled)
    while batch := list(itertools.islice(rows, BATCH_ROWS)):
      xs = cut(batch) if cut else [row.x for row in batch]
      yield {
        "id": [row.id for row in batch],
        "lang": [row.lang for row in batch],
        "group": [row.group for row in batch],
        "x": xs,
        "targets": [target(row) for row in batch],
        "truncated": [x != row.x for x, row in zip(xs, batch, strict=True)],
      }

  texts = {name: tf.TensorSpec([None], tf.string) for name in ("id", "lang", "group", "x", "targets")}
  signature = texts | {"truncated": tf.TensorSpec([None], tf.bool)}
  return tf.data.Dataset.from_generator(batches, output_signature=signature).unbatch()
