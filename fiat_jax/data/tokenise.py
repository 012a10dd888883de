"""Tokenised rows on disk. SeqIO runs in a child process that writes them; the caller never imports TensorFlow.

A shard is a folder named by everything its content depends on: `inputs.npy` and `targets.npy` hold all ids one row
after another, `inputs_ends.npy` and `targets_ends.npy` where each row ends, `truncated.npy` the numbers of the rows of
which `truncation.py` cut a column. A shard of pieces holds `targets` alone, and in `rows.npy` the number of each one's
row. Prompts and pieces are made by `prompt_shards.py`, chats by `dialogue_shards.py`, without SeqIO.
"""

from __future__ import annotations

import dataclasses
import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence

import numpy as np

from fiat_jax import children, shortage
from fiat_jax.data.shard_spec import ShardSpec as ShardSpec
from fiat_jax.data.shard_spec import spec_of
from fiat_jax.errors import UserError
from fiat_jax.resources import cache_folder


class Tokenising:
  """A child process at work on the shards that are not there yet; `wait` returns their folders, in order."""

  def __init__(self, specs: Sequence[ShardSpec]):
    self.folders = [spec.folder for spec in specs]
    # Recipes that read the same prompts share a shard.
    missing = {folder: spec for folder, spec in zip(self.folders, specs, strict=True) if not folder.is_dir()}
    self.child = _start(list(missing.values())) if missing else None

  def wait(self) -> list[pathlib.Path]:
    if self.child:
      errors = children.follow(self.child)
      if self.child.returncode == 2:
        raise UserError(errors.strip().splitlines()[-1].removeprefix("error: "))
      if self.child.returncode:
        raise RuntimeError(f"the tokenising process ended with {self.child.returncode}:\n{errors}")
      self.child = None
    return self.folders


def _start(specs: Sequence[ShardSpec]) -> subprocess.Popen[str]:
  return children.start("fiat_jax.data.tokenise", json.dumps([dataclasses.asdict(spec) for spec in specs]))


def truncated(folder: pathlib.Path) -> int:
  """Of how many rows of a shard a column was cut."""
  return len(np.load(folder / "truncated.npy"))


def left_out(folder: pathlib.Path) -> int:
  """How many chats are not in a shard, as they do not fit."""
  return len(np.load(folder / "left_out.npy"))


def write_shard(spec: ShardSpec) -> None:
  """Puts the shard in its place, whole or not at all; what an earlier process left half made is gone on with."""
  if spec.chats:
    from fiat_jax.data import dialogue_shards

    dialogue_shards.write(spec.path, spec.layout, spec.tokenizer, spec.chats, spec.shorten, spec.folder)
  else:
    from fiat_jax.data import prompt_shards

    prompt_shards.write(spec)


def main() -> int:
  children.end_with_parent()
  children.spare_imports()
  try:
    for record in json.load(sys.stdin):
      write_shard(spec_of(record))
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
