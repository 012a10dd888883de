"""Span corruption (`corruption.py`) as a SeqIO preprocessor and a task, and the task of the pieces that it is done to.

SeqIO hands every example seeds of its own, so that a seeded task gives the same spans again. Our own training reads
the pieces, and corrupts them anew each epoch.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from fiat_jax.data import features, vocabularies
from fiat_jax.data.corruption import DENSITY, MEAN_SPAN, corrupt, noise_spans
from fiat_jax.data.row import Layout, Row
from fiat_jax.data.task_vocabularies import extra_ids
from fiat_jax.errors import UserError


def span_corruption(*, length: int, density: float = DENSITY, mean_span: float = MEAN_SPAN) -> Callable[..., Any]:
  """Preprocessor: ids `targets` of whole texts become pairs `inputs`, `targets`, of pieces of at most `length` tokens.

  A text of more tokens gives several examples; nothing of it is left out. Where the vocabulary has no extra id for each
  span of a piece, the first example raises UserError.
  """

  @seqio.map_over_dataset(num_seeds=1)
  def corrupted(example, seed, sentinels):
    def pair(ids: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
      generator = np.random.default_rng(key.astype(np.uint32).tolist())
      return corrupt(ids, noise_spans(len(ids), generator, density, mean_span), sentinels)

    inputs, targets = tf.numpy_function(pair, [example["targets"], seed], (tf.int32, tf.int32), stateful=False)
    inputs.set_shape([None])
    targets.set_shape([None])
    return {"inputs": inputs, "targets": targets}

  def preprocess(dataset: Any, output_features: Mapping[str, Any]) -> Any:
    vocabulary = output_features["targets"].vocabulary
    most = max(1, round(length * density / mean_span))
    if most > (held := extra_ids(vocabulary)):
      raise UserError(
        f"pieces of {length} tokens have up to {most} spans, and the vocabulary {held} extra ids: give "
        "a smaller length, or a vocabulary with more"
      )
    pieces = in_pieces(dataset, length)
    sentinels = vocabulary.vocab_size - 1 - np.arange(most)
    return corrupted(pieces, sentinels=sentinels)  # pyright: ignore[reportCallIssue]  SeqIO gives seeds

  return preprocess


def in_pieces(dataset: Any, length: int) -> Any:
  """Preprocessor: ids `targets` in pieces of at most `length`; `row` is the number of the text that each is of."""

  def pieces(row: Any, example: Mapping[str, Any]) -> Any:
    ids = example["targets"]
    starts = tf.data.Dataset.from_tensor_slices(tf.range(0, tf.size(ids), length))
    return starts.map(lambda at: {"targets": ids[at : at + length], "row": row})

  return dataset.enumerate().flat_map(pieces)


def pieces_task(
  name: str, source: str | Sequence[Row], layout: Layout, vocabulary: vocabularies.TextVocabulary, length: int
) -> seqio.Task:
  """Registers the SeqIO task `name`: x of a file's rows, or of rows in hand (split `rows`), in pieces.

  These have at most `length` tokens. The task's examples hold token ids `targets` and the number `row`; no target is
  needed, and no end mark is added.
  """
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(  # pyright: ignore[reportArgumentType]  SeqIO's own type is too narrow
      lambda split, shuffle_files=False, seed=None: features.dataset_of_rows(source, layout, False), splits=("rows",)
    ),
    preprocessors=[
      functools.partial(seqio.preprocessors.rekey, key_map={"targets": "x"}),
      features.together,
      features.tokenize_together,
      functools.partial(in_pieces, length=length),
    ],
    output_features={"targets": seqio.Feature(vocabulary, add_eos=False)},
  )


def span_corruption_task(
  name: str, files: Mapping[str, str], layout: Layout, vocabulary: seqio.Vocabulary, *, length: int = 512
) -> seqio.Task:
  """Registers the SeqIO task `name`: span corruption over the x of files of rows, one a split; no target is needed."""
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(  # pyright: ignore[reportArgumentType]  SeqIO's own type is too narrow
      lambda split, shuffle_files=False, seed=None: features.dataset_of_rows(files[split], layout, False),
      splits=tuple(files),
    ),
    preprocessors=[
      functools.partial(seqio.preprocessors.rekey, key_map={"targets": "x"}),
      seqio.preprocessors.tokenize,
      span_corruption(length=length),
      seqio.preprocessors.append_eos,
    ],
    output_features={"inputs": seqio.Feature(vocabulary), "targets": seqio.Feature(vocabulary)},
  )
