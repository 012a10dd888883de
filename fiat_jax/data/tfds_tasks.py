"""Data sets of TensorFlow Datasets as SeqIO tasks, version pinned. TensorFlow stays here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import seqio
import tensorflow as tf

from fiat_jax import prompts
from fiat_jax.data.features import instruct, shown

Example = Mapping[str, Any]  # the tensors of one example of TFDS


@dataclasses.dataclass(frozen=True, kw_only=True)
class TfdsSet:
  """A data set of TFDS.

  Attributes:
    name: as TFDS loads it, with its version.
    splits: TFDS's split for each of ours.
    x, target: the texts that make x and the target, out of an example's tensors.
  """

  name: str
  splits: Mapping[str, str]
  x: Callable[[Example], Any]
  target: Callable[[Example], Any]


def register(
  task: str, source: TfdsSet, instruction: str, vocabulary: seqio.Vocabulary, *, shots: int = 0
) -> seqio.Task:
  """Registers a task whose inputs are the instruction around x, as `features.rows_task` has them for rows.

  Before x stand so many other examples as `shots`.
  """
  template = prompts.tuned_prompt(instruction, use_instruction=True, use_reasoning=False)

  @seqio.map_over_dataset
  def texts(example):
    return {"x": source.x(example), "targets": source.target(example)}

  return seqio.TaskRegistry.add(
    task,
    source=seqio.TfdsDataSource(  # pyright: ignore[reportArgumentType]  SeqIO's two types disagree
      tfds_name=source.name, splits=dict(source.splits)
    ),
    preprocessors=[
      texts,
      *([shown(shots)] if shots else []),
      instruct(template),
      seqio.preprocessors.tokenize,
      seqio.preprocessors.append_eos,
    ],
    output_features={name: seqio.Feature(vocabulary, add_eos=True) for name in ("inputs", "targets")},
  )


def joined(text: str) -> Callable[[Example], Any]:
  """The text with the example's features in the place of their names in braces."""
  template = prompts.parse(text)
  return lambda example: tf.strings.join(
    [example[piece.name] if isinstance(piece, prompts.Field) else tf.constant(piece) for piece in template]
  )


def labelled(*names: str) -> Callable[[Example], Any]:
  """The name of the example's label."""
  return lambda example: tf.gather(tf.constant(names), example["label"])
