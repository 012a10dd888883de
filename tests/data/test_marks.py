"""Chat formats that are refused, targets that are refused, and the same ids in training and in serving."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from test_tokenizer import CHATML, TRIMMED, write_folder, write_gguf, write_llama

from fiat_jax import prompts
from fiat_jax.data import marks, show
from fiat_jax.data.batches import Shard
from fiat_jax.data.packing import Example, Shape
from fiat_jax.data.rows import Layout, Row, read_rows
from fiat_jax.data.sequences import pack
from fiat_jax.data.tokenise import ShardSpec, Tokenising
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.request import Completion
from fiat_jax.errors import UserError
from fiat_jax.evaluation.evaluate import generate

DATED = "{{ date_string }} " + CHATML
DOUBLED = "{{ '<|im_start|>' }}" + CHATML
ENDLESS = CHATML.replace("<|im_end|>", "")


def test_a_model_without_a_template_is_refused_unless_prompts_are_plain(tmp_path: Path):
  tokenizer = Tokenizer.load(write_gguf(tmp_path / "m.gguf", "qwen2"))
  with pytest.raises(UserError, match=r"m\.gguf: the model has no chat template.* give --template plain"):
    marks.check_format(tokenizer, plain=False)
  marks.check_format(tokenizer, plain=True)


def test_plain_leaves_a_template_out(tmp_path: Path):
  path = write_gguf(tmp_path / "m.gguf", "qwen2", CHATML, add_bos_token=True)
  plain, bare = (
    Tokenizer.load(path, plain=True),
    Tokenizer.load(write_gguf(tmp_path / "b.gguf", "qwen2", add_bos_token=True)),
  )
  assert plain.template_source == "" and plain.encode_prompt("hi") == bare.encode_prompt("hi")
  assert plain.fingerprint == bare.fingerprint != Tokenizer.load(path).fingerprint


def test_a_begin_mark_written_twice_is_refused(tmp_path: Path):
  tokenizer = Tokenizer.load(write_gguf(tmp_path / "m.gguf", "qwen2", DOUBLED))
  message = r"m\.gguf: the chat template \(the metadata of .*m\.gguf\) writes the begin mark <\|im_start\|> twice"
  with pytest.raises(UserError, match=message):
    marks.check_format(tokenizer, plain=False)


def test_without_any_end_mark_a_model_is_refused_and_with_the_tokenizers_own_it_is_not(tmp_path: Path):
  small = Tokenizer.load(write_gguf(tmp_path / "m.gguf", "qwen2", ENDLESS))
  marks.check_format(small, plain=False)
  assert not small.ends_turns and small.end_id == small.eos_id
  folder = tmp_path / "folder"
  folder.mkdir()
  with pytest.raises(UserError, match=r"folder: no mark ends an answer: .*name it in tokenizer_config\.json"):
    marks.check_format(Tokenizer.load(write_folder(folder, small, eos_token=None)), plain=False)


def test_where_a_template_comes_from_is_told(tmp_path: Path):
  path = write_gguf(tmp_path / "m.gguf", "qwen2", CHATML)
  small = Tokenizer.load(path)
  assert small.template_source == f"the metadata of {path}"
  folder = tmp_path / "folder"
  folder.mkdir()
  write_folder(folder, small)
  assert Tokenizer.load(folder).template_source == f"{folder}/tokenizer_config.json"
  (folder / "chat_template.jinja").write_text(TRIMMED)
  loaded = Tokenizer.load(folder)
  assert loaded.template_source == f"{folder}/chat_template.jinja" and "user\na<|" in loaded.prompt_string(" a ")


def rows_of(path: Path, *targets: str) -> Sequence[Row]:
  records = [{"id": str(n), "input": f"question {n}", "target": target} for n, target in enumerate(targets)]
  path.write_text("\n".join(map(json.dumps, records)))
  return read_rows(str(path), Layout())


@pytest.mark.parametrize("targets, message", [
  ([[5, 6], [6], [5, 6]], r"rows\.jsonl:2: 1 of 3 rows have a target without tokens.*'b'"),
  ([[5, 6], [5, 6], [5, 7]], r"rows\.jsonl:3: 1 of 3 rows have a target without the end mark <\|im_end\|>"),
])  # fmt: skip
def test_targets_of_which_nothing_is_learned_are_refused(tmp_path: Path, targets: list[list[int]], message: str):
  tokenizer = Tokenizer.load(write_gguf(tmp_path / "m.gguf", "qwen2", CHATML))
  ids = [[tokenizer.end_id if id == 6 else id for id in target] for target in targets]
  examples = [Example(np.array([1, 2]), np.array(target), n) for n, target in enumerate(ids)]
  shard = tiny.write_shard(tmp_path / "shard", examples)
  with pytest.raises(UserError, match=message):
    marks.check_targets(shard, tokenizer, rows_of(tmp_path / "rows.jsonl", *"abc"), f"{tmp_path}/rows.jsonl")


class Recorder(Engine):
  """Keeps the prompts' ids, and answers with the ids that it is given."""

  def __init__(self, answers: list[list[int]]):
    self.answers, self.prompts = answers, []

  def generate(self, requests: Any, on_done: Any = None, *, shared: int = 0) -> list[Completion]:
    self.prompts = [list(request.tokens) for request in requests]
    return [Completion(tokens=answer, finish="stop") for answer in self.answers]


@pytest.mark.slow
def test_training_and_serving_see_the_same_ids(tmp_path: Path, smollm2_path: Path):
  """A training example is the engine's prompt, the target and the mark at which the engine stops; so it is shown."""
  rows = rows_of(tmp_path / "rows.jsonl", "fox den", "a", " <|im_end|> ")
  write_llama(tmp_path / "llama")
  places = {"smollm2": smollm2_path, "llama": tmp_path / "llama"}
  for name, template in {
    "chatml": CHATML,
    "trimmed": TRIMMED,
    "dated": DATED,
    "endless": ENDLESS,
    "plain": None,
  }.items():
    places[name] = write_gguf(tmp_path / f"{name}.gguf", "llama-bpe", template)
  specs = [
    ShardSpec(
      path=str(tmp_path / "rows.jsonl"), layout=Layout(), instruction=" Say.\n{x} ", use_instruction=True,
      use_reasoning=False, tokenizer=str(place), tokenizer_fingerprint=f"{tmp_path} {name}", plain=name == "plain",
    )
    for name, place in places.items()
  ]  # fmt: skip
  for spec, folder in zip(specs, Tokenising(specs).wait(), strict=True):
    tokenizer, shard = Tokenizer.load(spec.tokenizer, plain=spec.plain), Shard(folder)
    targets = [tokenizer.encode(row.targets[0]) for row in rows]
    engine = Recorder(targets)
    answers = generate(engine, tokenizer, rows, shard, target_length=8, on_done=lambda: None)
    assert tokenizer.end_id in tokenizer.stop_ids
    for n, row in enumerate(rows):
      batch = pack([shard[n]], Shape(rows=1, length=256, targets=64))
      trained = batch.tokens[batch.segments == 1].tolist()
      assert trained == [*engine.prompts[n], *targets[n], tokenizer.end_id]
      assert batch.target_ids[batch.target_weights == 1].tolist() == [*targets[n], tokenizer.end_id]
      shown = show.example(tokenizer, spec.template, row)
      assert [*shown.prompt_ids, *shown.target_ids] == trained
      assert answers[n].text == tokenizer.decode(targets[n]).strip()
      text = prompts.fill(spec.template, {"x": row.x, "reasoning": ""})
      assert shown.prompt_ids == tokenizer.encode_prompt(text)
