"""Tokenised rows on disk. SeqIO runs in a child process that writes them; the caller never imports TensorFlow.

A shard is a folder named by everything its content depends on: `inputs.npy` and `targets.npy` hold all ids one row
after another, `inputs_ends.npy` and `targets_ends.npy` where each row ends.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence

import numpy as np

from fiat_jax import prompts, shortage, signals
from fiat_jax.data import rows
from fiat_jax.errors import UserError
from fiat_jax.resources import cache_folder

FORMAT = 1  # part of every key: raise it when what a shard holds changes


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShardSpec:
  """What a shard is made of: the rows of a file, one form of the prompt, and a vocabulary (a checkpoint's path).

  `plain` prompts are not put into the checkpoint's chat format.
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

  @property
  def template(self) -> prompts.Template:
    return prompts.tuned_prompt(
      self.instruction, use_instruction=self.use_instruction, use_reasoning=self.use_reasoning
    )

  @property
  def folder(self) -> pathlib.Path:
    parts = dataclasses.asdict(self) | {"path": rows.digest(self.path), "tokenizer": "", "format": FORMAT}
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
  environment = os.environ | {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
  package_root = str(pathlib.Path(__file__).parents[2])
  environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, environment.get("PYTHONPATH", "")]))
  child = subprocess.Popen(
    [sys.executable, "-m", "fiat_jax.data.tokenise"],
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    env=environment,
  )
  assert child.stdin is not None
  child.stdin.write(json.dumps([dataclasses.asdict(spec) for spec in specs]))
  child.stdin.close()
  child.stdin = None
  return child


def _spec(record: dict) -> ShardSpec:
  layout = record.pop("layout")
  labels = layout.pop("labels")
  layout = rows.Layout(**layout, labels=labels if isinstance(labels, str) else tuple(labels))
  return ShardSpec(**record, layout=layout)


def write_shard(spec: ShardSpec) -> None:
  """Runs the SeqIO task over the spec's rows and puts the shard in its place, whole or not at all."""
  from fiat_jax.data import features, vocabularies

  task = features.rows_task(
    f"rows_{spec.folder.name}",
    {"rows": spec.path},
    spec.layout,
    spec.template,
    inputs=vocabularies.PromptVocabulary(spec.tokenizer, plain=spec.plain),
    targets=vocabularies.TextVocabulary(spec.tokenizer, plain=spec.plain),
    labelled=spec.labelled,
  )
  ids: dict[str, list[np.ndarray]] = {"inputs": [], "targets": []}
  for example in task.get_dataset(None, "rows", shuffle=False, num_epochs=1).as_numpy_iterator():
    for name, column in ids.items():
      column.append(np.asarray(example[name], np.int32))
  spec.folder.parent.mkdir(parents=True, exist_ok=True)
  work = pathlib.Path(tempfile.mkdtemp(dir=spec.folder.parent, prefix="partial-"))
  try:
    for name, column in ids.items():
      np.save(work / f"{name}.npy", np.concatenate(column), allow_pickle=False)
      np.save(work / f"{name}_ends.npy", np.cumsum([len(row) for row in column]), allow_pickle=False)
    os.rename(work, spec.folder)
  except OSError:
    if not spec.folder.is_dir():  # another process may have put the same shard there first
      raise
  finally:
    shutil.rmtree(work, ignore_errors=True)


def main() -> int:
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
