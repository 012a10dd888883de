"""Shards that grow in a folder of their own: stopped by any means, they go on and come out the same."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fiat_jax.data import making, tokenise
from fiat_jax.data.row import Layout
from fiat_jax.data.shard_spec import ShardSpec
from fiat_jax.errors import UserError

COLUMNS = {"inputs": "<i4", "inputs_lengths": "<i4"}


def _fill(made: making.Making, upto: int) -> None:
  for number in range(made.rows, upto):
    made.append({"inputs": np.full(number, number), "inputs_lengths": np.array([number])}, 1, number)
    made.keep()


def _made(folder: Path) -> tuple[list[int], list[int]]:
  assert sorted(file.name for file in folder.iterdir()) == ["inputs.npy", "inputs_ends.npy"]
  return np.load(folder / "inputs.npy").tolist(), np.load(folder / "inputs_ends.npy").tolist()


def _stopped(made: making.Making) -> None:
  _fill(made, 3)
  made.append({"inputs": np.array([77]), "inputs_lengths": np.array([1])}, 1)
  raise KeyboardInterrupt


def test_what_was_written_down_is_not_done_again(tmp_path):
  begun = []

  def fill(made: making.Making) -> None:
    begun.append((made.rows, made.most))
    _fill(made, 5)

  with pytest.raises(KeyboardInterrupt):
    making.make(tmp_path / "shard", COLUMNS, _stopped)
  making.make(tmp_path / "shard", COLUMNS, fill)
  making.make(tmp_path / "whole", COLUMNS, fill)
  assert begun == [(3, 2), (0, 0)]
  assert _made(tmp_path / "shard") == _made(tmp_path / "whole") == ([1, 2, 2, 3, 3, 3, 4, 4, 4, 4], [0, 1, 3, 6, 10])


def test_a_column_that_lost_its_end_is_made_anew(tmp_path):
  with pytest.raises(KeyboardInterrupt):
    making.make(tmp_path / "shard", COLUMNS, _stopped)
  column = tmp_path / "shard.making" / "inputs.npy"
  column.write_bytes(column.read_bytes()[:8])
  making.make(tmp_path / "shard", COLUMNS, lambda made: _fill(made, 2))
  assert _made(tmp_path / "shard") == ([1], [0, 1])


def test_rows_at_fault_leave_nothing_behind(tmp_path):
  def fill(made: making.Making) -> None:
    _fill(made, 2)
    raise UserError("no row")

  with pytest.raises(UserError):
    making.make(tmp_path / "shard", COLUMNS, fill)
  assert [path.name for path in tmp_path.iterdir()] == ["shard.making.lock"]


def test_what_is_there_is_left_alone(tmp_path):
  making.make(tmp_path / "shard", COLUMNS, lambda made: _fill(made, 2))
  making.make(tmp_path / "shard", COLUMNS, lambda made: pytest.fail("made again"))


# Several processes work on small blocks; killed when a third block was written down.
SCRIPT = """
import json, os, signal, sys
from fiat_jax.data import dialogue_shards, making, prompt_shards, tokenise
if __name__ == "__main__":
  making.SECONDS = 0
  for module in (dialogue_shards, prompt_shards):
    module.BLOCK, module.FEW = 8, 8
  keep, kept = making.Making.keep, []
  def keep_and_die(made):
    keep(made)
    kept.append(made.rows)
    if len(kept) == 3:
      os.kill(os.getpid(), signal.SIGKILL)
  if sys.argv[1] == "killed":
    making.Making.keep = keep_and_die
  given = json.load(sys.stdin)
  tokenise.write_shard(tokenise.spec_of(given))
"""


def _rows(kind: str, file: Path) -> Path:
  rows = []
  for number in range(50):
    question, answer = f"Name river {number}.", f"The {number}th."
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    reasoning = {"reasoning": "It is long. " * (number % 3)}
    rows.append({"messages": turns} if kind == "chats" else {"input": question, "target": answer, **reasoning})
  file.write_text("".join(json.dumps({"id": str(n), **row}) + "\n" for n, row in enumerate(rows)))
  return file


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["prompts", "pieces", "chats"])
def test_a_shard_whose_process_was_killed_goes_on_and_is_the_same(kind, smollm2_path, tmp_path, monkeypatch):
  spec = ShardSpec(
    path=str(_rows(kind, tmp_path / "rows.jsonl")),
    layout=Layout(),
    instruction="{x}",
    use_instruction=True,
    use_reasoning=kind == "prompts",
    tokenizer=str(smollm2_path),
    tokenizer_fingerprint="-",
    labelled=kind != "pieces",
    pieces=4 if kind == "pieces" else 0,
    chats=200 if kind == "chats" else 0,
  )
  (tmp_path / "script.py").write_text(SCRIPT)
  given = json.dumps(dataclasses.asdict(spec))

  def run(how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(tmp_path / "script.py"), how]
    return subprocess.run(command, input=given, capture_output=True, text=True, cwd=Path(__file__).parents[2])

  monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
  monkeypatch.setenv("FIAT_CACHE", str(tmp_path / "pieces"))
  assert run("killed").returncode == -signal.SIGKILL and not spec.folder.exists()
  done = run("whole")
  assert done.returncode == 0, done.stderr
  told = [line.split()[1:3] for line in done.stderr.splitlines() if line.startswith("\x1eprogress")]
  assert told == [["32", "50"], ["40", "50"], ["48", "50"], ["50", "50"]], "the first 24 were kept"
  pieces = spec.folder
  monkeypatch.setenv("FIAT_CACHE", str(tmp_path / "whole"))
  tokenise.write_shard(spec)
  assert sorted(file.name for file in pieces.iterdir()) == sorted(file.name for file in spec.folder.iterdir())
  for file in pieces.iterdir():
    assert file.read_bytes() == (spec.folder / file.name).read_bytes(), file.name
