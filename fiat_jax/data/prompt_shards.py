"""Prompts and targets, or pieces of texts, tokenised into a shard by SeqIO, in several processes where there are many.

How a shard grows and outlives a stop: `making.py`. TensorFlow lives here.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import seqio

from fiat_jax import children
from fiat_jax.data import blocks, features, making, rows, spans, truncation, vocabularies
from fiat_jax.data.making import Making
from fiat_jax.data.row import Row
from fiat_jax.data.shard_spec import ShardSpec
from fiat_jax.errors import UserError

BLOCK = 4096  # rows that a process takes at a time: each time SeqIO builds its pipeline anew
FEW = 8 * BLOCK  # rows for which other processes take longer to import TensorFlow than to encode
TASK = "rows_of_a_block"

Numbered = tuple[int, Row]


class Done(NamedTuple):
  rows: int
  columns: dict[str, np.ndarray]


def write(spec: ShardSpec) -> None:
  """Runs the SeqIO task over the spec's rows and puts the shard in its place, or goes on with it.

  Raises:
    UserError: a row is none, or none has text.
  """
  found = rows.read_rows(spec.path, spec.layout, labelled=spec.labelled)
  names = ("targets",) if spec.pieces else ("inputs", "targets")
  columns = {column: "<i4" for name in names for column in (name, f"{name}_lengths")}
  columns["rows" if spec.pieces else "truncated"] = "<i4"
  label = f"tokenising {rows.locate(spec.path)[0].name}"

  def fill(made: Making) -> None:
    numbered = ((number, found[number]) for number in range(made.rows, len(found)))
    for done in blocks.worked(numbered, _encode, _begin, (spec,), size=BLOCK, few=FEW):
      if made.append(done.columns, done.rows):
        children.tell(label, made.rows, len(found))
    if not made.length("targets_lengths"):
      raise UserError("no row has text to learn from: is --input its template?", spec.path)

  making.make(spec.folder, columns, fill)


_worker: dict[str, ShardSpec] = {}


def _begin(spec: ShardSpec) -> None:
  _worker["spec"] = spec


def _encode(block: Sequence[Numbered]) -> Done:
  spec, first = _worker["spec"], block[0][0]
  try:
    task, names, number = _task(spec, [row for _, row in block])
    found = list(features.batches(task, "rows", (*names, number)))
  finally:
    seqio.TaskRegistry.remove(TASK)
  columns = {name: _joined(batch[name].flat_values for batch in found) for name in names}
  columns |= {f"{name}_lengths": _joined(batch[name].row_lengths() for batch in found) for name in names}
  numbers = _joined(batch[number] for batch in found)
  chosen = {"rows": numbers} if spec.pieces else {"truncated": np.flatnonzero(numbers)}
  return Done(len(block), columns | {name: values + first for name, values in chosen.items()})


def _joined(tensors: Any) -> np.ndarray:
  return np.concatenate([np.zeros(0, np.int32), *(tensor.numpy() for tensor in tensors)]).astype(np.int32)


def _task(spec: ShardSpec, found: Sequence[Row]) -> tuple[seqio.Task, tuple[str, ...], str]:
  """The SeqIO task over rows, which of its features are ids, and which says a number of each example."""
  if spec.pieces:
    vocabulary = vocabularies.TextVocabulary(spec.tokenizer, plain=True)
    return spans.pieces_task(TASK, found, spec.layout, vocabulary, spec.pieces), ("targets",), "row"
  inputs = vocabularies.PromptVocabulary(spec.tokenizer, plain=spec.plain)
  cutting = spec.truncation and functools.partial(
    truncation.cut, layout=spec.layout, template=spec.template, tokenizer=inputs.tokenizer, truncation=spec.truncation
  )
  task = features.rows_task(
    TASK,
    {"rows": found},
    spec.layout,
    spec.template,
    inputs=inputs,
    targets=vocabularies.TextVocabulary(spec.tokenizer, plain=spec.plain),
    labelled=spec.labelled,
    explains=spec.explains,
    cut=cutting,
  )
  return task, ("inputs", "targets"), "truncated"
