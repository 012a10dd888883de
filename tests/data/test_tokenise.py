"""Tokenised shards, SeqIO's child process and all: the ids, when they are made again, and who imports TensorFlow."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fiat_jax import prompts
from fiat_jax.data import tokenise
from fiat_jax.data.batches import Shard
from fiat_jax.data.rows import Layout, Row, read_rows
from fiat_jax.data.tokenise import ShardSpec, Tokenising
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.resources import shipped

ROWS = 6
LAYOUT = Layout(input="Passage: {passage}\n\nQuestion: {question}")
INSTRUCTION = "Answer from the passage.\n\n{x}\n\nHint: {reasoning}"


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
  return Tokenizer.load(smollm2_path)


@pytest.fixture(scope="module")
def spec(smollm2_path: Path, tokenizer: Tokenizer) -> ShardSpec:
  return ShardSpec(
    path=f"{shipped('tasks') / 'mini_xqa' / 'train.jsonl'}[:{ROWS}]",
    layout=LAYOUT,
    instruction=INSTRUCTION,
    use_instruction=True,
    use_reasoning=True,
    tokenizer=str(smollm2_path),
    tokenizer_fingerprint=tokenizer.fingerprint,
  )


@pytest.fixture(scope="module")
def specs(spec: ShardSpec, tmp_path_factory: pytest.TempPathFactory) -> list[ShardSpec]:
  """The shipped rows as three recipes read them, and rows without targets that look like control tokens."""
  strange = tmp_path_factory.mktemp("rows") / "strange.jsonl"
  records = [{"input": text} for text in ("<|im_end|>\n<|im_start|>system", "{x} {{reasoning}}", " ", "नमस्ते 😀\x00")]
  strange.write_text("\n".join(json.dumps(record) for record in records))
  return [
    spec,
    dataclasses.replace(spec, use_reasoning=False),
    dataclasses.replace(spec, use_instruction=False, use_reasoning=False),
    dataclasses.replace(spec, path=str(strange), layout=Layout(), use_reasoning=False, labelled=False),
  ]


@pytest.fixture(scope="module")
def folders(specs: list[ShardSpec]) -> list[Path]:
  return Tokenising(specs).wait()


def rows_of(spec: ShardSpec) -> Sequence[Row]:
  return read_rows(spec.path, spec.layout, labelled=spec.labelled)


def test_the_ids_are_those_of_the_filled_template(specs: list[ShardSpec], folders: list[Path], tokenizer: Tokenizer):
  for spec, folder in zip(specs, folders, strict=True):
    shard, rows = Shard(folder), rows_of(spec)
    assert len(shard) == len(rows)
    for n, row in enumerate(rows):
      example = shard[n]
      text = prompts.fill(spec.template, {"x": row.x, "reasoning": row.reasoning or ""})
      assert example.inputs.tolist() == tokenizer.encode_prompt(text)
      target = row.targets[0] if row.targets else ""
      assert example.targets.tolist() == [*tokenizer.encode(target), tokenizer.end_id]


def test_recipes_read_different_forms_of_the_same_rows(folders: list[Path]):
  both, instructed, bare = (Shard(folder) for folder in folders[:3])
  assert len(set(folders)) == 4
  for n in range(ROWS):
    assert len(both[n].inputs) > len(instructed[n].inputs) > len(bare[n].inputs)
    assert both[n].targets.tolist() == instructed[n].targets.tolist() == bare[n].targets.tolist()


def test_what_is_there_is_not_made_again(specs: list[ShardSpec], folders: list[Path], monkeypatch: pytest.MonkeyPatch):
  made: list[Sequence[ShardSpec]] = []
  monkeypatch.setattr(tokenise, "_start", made.append)
  work = Tokenising(specs)
  assert work.child is None and not made and work.wait() == folders


def test_recipes_of_the_same_form_are_made_once(spec: ShardSpec, monkeypatch: pytest.MonkeyPatch):
  made: list[Sequence[ShardSpec]] = []
  monkeypatch.setattr(tokenise, "_start", made.append)
  new = dataclasses.replace(spec, instruction="New. {x}")
  assert len(set(Tokenising([new, new]).folders)) == 1 and made == [[new]]


def test_a_shard_is_named_by_all_that_it_depends_on(spec: ShardSpec, tmp_path: Path):
  changes: list[dict[str, Any]] = [
    {"path": f"{spec.path.split('[')[0]}[:{ROWS + 1}]"},
    {"layout": Layout(input="{question}")},
    {"layout": dataclasses.replace(LAYOUT, labels=("a", "b"))},
    {"instruction": "{x}"},
    {"use_instruction": False},
    {"use_reasoning": False},
    {"tokenizer_fingerprint": "other"},
    {"labelled": False},
  ]
  folders = {dataclasses.replace(spec, **change).folder for change in changes}
  assert len(folders | {spec.folder}) == len(changes) + 1
  moved = tmp_path / "moved.jsonl"
  moved.write_bytes(Path(spec.path.split("[")[0]).read_bytes())
  assert dataclasses.replace(spec, path=f"{moved}[:{ROWS}]", tokenizer="elsewhere").folder == spec.folder


def test_a_user_error_in_the_child_reaches_the_caller(spec: ShardSpec):
  faulty = dataclasses.replace(spec, instruction="No place for it.")
  with pytest.raises(UserError, match=r"^the instruction 'No place for it\.' does not hold {x}"):
    Tokenising([faulty]).wait()
  assert not faulty.folder.exists()


def test_our_own_fault_in_the_child_is_no_user_error(spec: ShardSpec, monkeypatch: pytest.MonkeyPatch):
  child = subprocess.Popen([sys.executable, "-c", "raise KeyError('ours')"], stderr=subprocess.PIPE, text=True)
  monkeypatch.setattr(tokenise, "_start", lambda specs: child)
  with pytest.raises(RuntimeError, match="KeyError: 'ours'"):
    Tokenising([dataclasses.replace(spec, instruction="Ours. {x}")]).wait()


def test_the_caller_never_imports_tensorflow(specs: list[ShardSpec], folders: list[Path]):
  code = (
    "import json, sys\n"
    "from fiat_jax.data import tokenise\n"
    "from fiat_jax.data.batches import Shard\n"
    "import fiat_jax.workbench, fiat_jax.verbs.train, fiat_jax.verbs.compare\n"
    "specs = [tokenise.spec_of(record) for record in json.load(sys.stdin)]\n"
    "assert len(Shard(tokenise.Tokenising(specs).wait()[0])) == 6\n"
    "print(*sorted({'tensorflow', 'seqio', 'torch'} & set(sys.modules)))\n"
  )
  given = json.dumps([dataclasses.asdict(spec) for spec in specs])
  run = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=True)
  assert run.stdout.strip() == ""
