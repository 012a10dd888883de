"""Span corruption, T5's pretraining objective (Raffel et al., 2020, §3.1.4), as a SeqIO preprocessor.

Random spans of a text's tokens go; the input holds one extra id in the place of each, the target the extra ids with
what stood there. SeqIO hands every example seeds of its own, so that a seeded task gives the same spans again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from fiat_jax.data.features import dataset_of_rows
from fiat_jax.data.rows import Layout
from fiat_jax.errors import UserError


def noise_spans(length: int, generator: np.random.Generator, density: float, mean_span: float) -> np.ndarray:
  """Which of `length` tokens go [length]: spans of `mean_span` tokens on average, `density` of all, kept ones between.

  The first token stays, the last goes, as in T5's own.
  """
  if length < 2:
    return np.zeros(length, bool)
  noise = int(np.clip(round(length * density), 1, length - 1))
  spans = int(np.clip(round(noise / mean_span), 1, min(noise, length - noise)))
  parts = [_split(total, spans, generator) for total in (length - noise, noise)]
  lengths = np.stack(parts, axis=1).reshape(-1)  # kept, gone, kept, gone …
  return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def _split(total: int, parts: int, generator: np.random.Generator) -> np.ndarray:
  """A random split of `total` into so many parts of at least one."""
  cuts = np.sort(generator.permutation(total - 1)[: parts - 1]) + 1
  return np.diff(np.concatenate([[0], cuts, [total]]))


def corrupt(ids: np.ndarray, gone: np.ndarray, first_extra: int) -> tuple[np.ndarray, np.ndarray]:
  """Input and target of ids [S] of which some are `gone` [S]; the n-th span has the extra id `first_extra` - n."""
  return _with_extra_ids(ids, gone, first_extra), _with_extra_ids(ids, ~gone, first_extra)


def _with_extra_ids(ids: np.ndarray, out: np.ndarray, first_extra: int) -> np.ndarray:
  """The ids with each run that is `out` replaced by the next extra id."""
  starts = out & ~np.concatenate([[False], out[:-1]])
  replaced = np.where(starts, first_extra + 1 - np.cumsum(starts), ids)
  return replaced[starts | ~out].astype(np.int32)


def span_corruption(*, length: int, density: float = 0.15, mean_span: float = 3.0) -> Callable[..., Any]:
  """Preprocessor: ids `targets` of whole texts become pairs `inputs`, `targets`, of pieces of at most `length` tokens.

  A text of more tokens gives several examples; nothing of it is left out. Where the vocabulary has no extra id for each
  span of a piece, the first example raises UserError.
  """

  @seqio.map_over_dataset(num_seeds=1)
  def corrupted(example, seed, first_extra):
    def pair(ids: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
      generator = np.random.default_rng(key.astype(np.uint32).tolist())
      return corrupt(ids, noise_spans(len(ids), generator, density, mean_span), first_extra)

    inputs, targets = tf.numpy_function(pair, [example["targets"], seed], (tf.int32, tf.int32), stateful=False)
    inputs.set_shape([None])
    targets.set_shape([None])
    return {"inputs": inputs, "targets": targets}

  def preprocess(dataset: Any, output_features: Mapping[str, Any]) -> Any:
    vocabulary = output_features["targets"].vocabulary
    most = max(1, round(length * density / mean_span))
    if most > vocabulary.extra_ids:
      raise UserError(
        f"pieces of {length} tokens have up to {most} spans, and the vocabulary {vocabulary.extra_ids} extra ids: give "
        "a smaller length, or a vocabulary with more"
      )
    pieces = dataset.flat_map(functools.partial(_pieces, length=length))
    return corrupted(pieces, first_extra=vocabulary.vocab_size - 1)  # pyright: ignore[reportCallIssue]  SeqIO gives seeds

  return preprocess


def _pieces(example: Mapping[str, Any], length: int) -> Any:
  ids = example["targets"]
  starts = tf.data.Dataset.from_tensor_slices(tf.range(0, tf.size(ids), length))
  return starts.map(lambda at: {"targets": ids[at : at + length]})


def span_corruption_task(
  name: str, files: Mapping[str, str], layout: Layout, vocabulary: seqio.Vocabulary, *, length: int = 512
) -> seqio.Task:
  """Registers the SeqIO task `name`: span corruption over the x of files of rows, one a split; no target is needed."""
  return seqio.TaskRegistry.add(
    name,
    source=seqio.FunctionDataSource(  # pyright: ignore[reportArgumentType]  SeqIO's own type is too narrow
      lambda split, shuffle_files=False, seed=None: dataset_of_rows(files[split], layout, False),
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
