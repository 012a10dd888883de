"""Tokenised rows on disk. SeqIO runs in a child process that writes them; the caller never imports TensorFlow.

A shard is a folder named by everything its content depends on: `inputs.npy` and `targets.npy` hold all ids one row
after another, `inputs_ends.npy` and `targets_ends.npy` where each row ends, `truncated.npy` the numbers of the rows of
which `truncation.py` cut a column. A shard of pieces holds `targets` alone, and in `rows.npy` the number of each one's
row. A shard of chats is made by `dialogue_shards.py`, without SeqIO.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from fiat_jax import children, prompts, shortage, signals
from fiat_jax.data import rows, truncation
from fiat_jax.data.columns import Column
from fiat_jax.data.truncation import Truncation
from fiat_jax.errors import UserError
from fiat_jax.resources import cache_folder

FORMAT = 3  # part of every key: raise it when what a shard holds changes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSpec:
  """What a shard is made of: the rows of a file, one form of the prompt, and a vocabulary (a checkpoint's path).

  `plain` prompts are not put into the checkpoint's chat format. Every prompt begins with `prefix`; where it `explains`,
  its target is the row's reasoning. Where `pieces` is not 0, there are no prompts and targets but x alone, in pieces of
  at most so many tokens; where `chats` is not 0, whole chats of at most so many, of which `shorten` makes longer ones.
  """

  path: str
  layout: rows.Layout
  instruction: str
  use_instruction: bool
  use_reasoning: bool
  tokenizer: str
  tokenizer_fingerprint: str
  labelled: bool = True
  plain: bool = False
  prefix: str = ""
  explains: bool = False
  truncation: Truncation | None = None
  pieces: int = 0
  chats: int = 0
  shorten: bool = False

  @property
  def template(self) -> prompts.Template:
    return prompts.tuned_prompt(
      self.instruction,
      use_instruction=self.use_instruction,
      use_reasoning=self.use_reasoning,
      prefix=self.prefix,
    )

  @property
  def folder(self) -> pathlib.Path:
    parts = dataclasses.asdict(self) | {"path": rows.digest(self.path), "tokenizer": "", "format": FORMAT}
    parts = {name: part for name, part in parts.items() if part or name not in ("prefix", "explains")}
    return cache_folder("rows") / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class Tokenising:
  """A child process at work on the shards that are not there yet; `wait` returns their folders, in order."""

  def __init__(self, specs: Sequence[ShardSpec]):
    self.folders = [spec.folder for spec in specs]
    # Recipes that read the same prompts share a shard.
    missing = {folder: spec for folder, spec in zip(self.folders, specs, strict=True) if not folder.is_dir()}
    self.child = _start(list(missing.values())) if missing else None

  def wait(self) -> list[pathlib.Path]:
    if self.child:
      _, errors = self.child.communicate()
      signals.check()  # Ctrl-C ends the child too
      if self.child.returncode == 2:
        raise UserError(errors.strip().splitlines()[-1].removeprefix("error: "))
      if self.child.returncode:
        raise RuntimeError(f"the tokenising process ended with {self.child.returncode}:\n{errors}")
      self.child = None
    return self.folders


def _start(specs: Sequence[ShardSpec]) -> subprocess.Popen[str]:
  return children.start("fiat_jax.data.tokenise", json.dumps([dataclasses.asdict(spec) for spec in specs]))


def _spec(record: dict) -> ShardSpec:
  layout = record.pop("layout")
  labels = layout.pop("labels")
  layout = rows.Layout(**layout, labels=labels if isinstance(labels, str) else tuple(labels))
  truncation = record.pop("truncation")
  return ShardSpec(**record, layout=layout, truncation=Truncation(**truncation) if truncation else None)


def truncated(folder: pathlib.Path) -> int:
  """Of how many rows of a shard a column was cut."""
  return len(np.load(folder / "truncated.npy"))


def left_out(folder: pathlib.Path) -> int:
  """How many chats are not in a shard, as they do not fit."""
  return len(np.load(folder / "left_out.npy"))


def _task(spec: ShardSpec) -> tuple[Any, tuple[str, ...], str]:
  """The SeqIO task of a spec, which of its features are ids, and which says a number of each example."""
  from fiat_jax.data import features, spans, vocabularies

  name = f"rows_{spec.folder.name}"
  if spec.pieces:
    vocabulary = vocabularies.TextVocabulary(spec.tokenizer, plain=True)
    return spans.pieces_task(name, spec.path, spec.layout, vocabulary, spec.pieces), ("targets",), "row"
  inputs = vocabularies.PromptVocabulary(spec.tokenizer, plain=spec.plain)
  cutting = spec.truncation and functools.partial(
    truncation.cut, layout=spec.layout, template=spec.template, tokenizer=inputs.tokenizer, truncation=spec.truncation
  )
  task = features.rows_task(
    name,
    {"rows": spec.path},
    spec.layout,
    spec.template,
    inputs=inputs,
    targets=vocabularies.TextVocabulary(spec.tokenizer, plain=spec.plain),
    labelled=spec.labelled,
    explains=spec.explains,
    cut=cutting,
  )
  return task, ("inputs", "targets"), "truncated"


def write_shard(spec: ShardSpec) -> None:
  """Runs the SeqIO task over the spec's rows and puts the shard in its place, whole or not at all."""
  if spec.chats:
    from fiat_jax.data import dialogue_shards

    dialogue_shards.write(spec.path, spec.layout, spec.tokenizer, spec.chats, spec.shorten, spec.folder)
    return
  from fiat_jax.data import features

  task, names, number = _task(spec)
  spec.folder.parent.mkdir(parents=True, exist_ok=True)
  work = pathlib.Path(tempfile.mkdtemp(dir=spec.folder.parent, prefix="partial-"))
  try:
    with contextlib.ExitStack() as files:
      columns = {name: files.enter_context(Column(work / f"{name}.npy")) for name in names}
      lengths: dict[str, list[np.ndarray]] = {name: [] for name in columns}
      numbers: list[np.ndarray] = []
      for batch in features.batches(task, "rows", (*columns, number)):
        for name, column in columns.items():
          column.append(batch[name].flat_values.numpy())
          lengths[name].append(batch[name].row_lengths().numpy())
        numbers.append(batch[number].numpy())
    if not numbers:
      raise UserError("no row has text to learn from: is --input its template?", spec.path)
    for name in names:
      np.save(work / f"{name}_ends.npy", np.cumsum(np.concatenate(lengths[name])), allow_pickle=False)
    found = np.concatenate(numbers)
    file, found = ("rows", found) if spec.pieces else ("truncated", np.flatnonzero(found))
    np.save(work / f"{file}.npy", found, allow_pickle=False)
    os.rename(work, spec.folder)
  except OSError:
    if not spec.folder.is_dir():  # another process may have put the same shard there first
      raise
  finally:
    shutil.rmtree(work, ignore_errors=True)


def main() -> int:
  children.end_with_parent()
  try:
    for record in json.load(sys.stdin):
      write_shard(_spec(record))
  except UserError as e:
    print(f"error: {e}", file=sys.stderr)
    return 2
  except Exception as e:
    short = shortage.told(e, [cache_folder("rows")])
    if short is None:
      raise
    print(f"error: {short}", file=sys.stderr)
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main())
