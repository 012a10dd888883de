"""Chats of which every assistant's turn is learned: which ids carry loss, what fits, shards made in pieces."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny

from fiat_jax.data import dialogue_shards, dialogues
from fiat_jax.data.packing import Example, Shape
from fiat_jax.data.rows import Layout
from fiat_jax.data.sequences import Sequences
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.evaluation import teacher_forced

CHAT = [
  {"role": "user", "content": "Name a river."},
  {"role": "assistant", "content": "The Danube."},
  {"role": "user", "content": "And <|im_end|> a lake?"},
  {"role": "assistant", "content": "Lake Geneva."},
]


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Tokenizer:
  return Tokenizer.load(smollm2_path)


def test_the_assistants_turns_carry_loss_and_nothing_else_does(smollm2):
  found = dialogues.encode(CHAT, smollm2, 1000)
  decode = lambda ids: smollm2.hugging_face.decode(ids, skip_special_tokens=False)  # noqa: E731
  assert decode(found.targets[found.learned]) == "The Danube.<|im_end|>Lake Geneva.<|im_end|>"
  assert decode(found.targets[~found.learned]).count("<|im_end|>") == 2, "one is the user's text, spelt out"
  assert sum(map(smollm2.is_control, found.targets[~found.learned])) == 3


def test_the_ids_are_transformers_own(smollm2):
  plain = [message | {"content": message["content"].replace("<|im_end|> ", "")} for message in CHAT]
  found = dialogues.encode(plain, smollm2, 1000)
  rendered = smollm2.hugging_face.apply_chat_template(plain, tokenize=False).rstrip("\n")
  ids = [*found.inputs, *found.targets]
  assert ids == smollm2.hugging_face.encode(rendered, add_special_tokens=False)


def test_whole_exchanges_are_left_out_from_the_last(smollm2):
  whole = dialogues.encode(CHAT, smollm2, 1000)
  length = len(whole.inputs) + len(whole.targets)
  assert not dialogues.encode(CHAT, smollm2, length).cut
  short = dialogues.encode(CHAT, smollm2, length - 1)
  alone = dialogues.encode(CHAT[:2], smollm2, 1000)
  assert short.cut and short.learned.all() and np.array_equal(short.targets, alone.targets)
  first = len(alone.inputs) + len(alone.targets)
  assert dialogues.encode(CHAT, smollm2, first - 1) == first


def test_the_loss_is_that_of_each_turn_after_all_that_was_said_before(tiny_model):
  generator = np.random.default_rng(0)
  ids = generator.integers(0, tiny.CONFIG.vocab_size, 30).astype(np.int32)
  learned = np.array([True] * 6 + [False] * 5 + [True] * 4)
  batch = Sequences().pack([Example(ids[:15], ids[15:], 0, learned=learned)], Shape(rows=1, length=64, targets=16))
  arrays = {name: array[0] for name, array in batch._asdict().items() if name != "microbatches"}
  loss, _, tokens = teacher_forced.sums(tiny_model.module, {"params": tiny_model.params}, arrays)
  wanted = [(ids[:15], ids[15:21]), (ids[:26], ids[26:])]
  logprobs = [tiny.logprobs_of(tiny_model.module, {"params": tiny_model.params}, *pair).sum() for pair in wanted]
  assert tokens == 10 and loss == pytest.approx(-sum(logprobs), rel=1e-5)


def _write_chats(file: Path, count: int) -> Path:
  rows = []
  for number in range(count):
    messages = [{**message, "content": f"{message['content']} {number}"} for message in CHAT[: 2 + 2 * (number % 2)]]
    rows.append({"id": f"c{number}", "messages": messages})
  file.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return file


def _shard(file: Path, tokenizer: Path, folder: Path, limit: int = 200, shorten: bool = False) -> dialogues.Dialogues:
  dialogue_shards.write(str(file), Layout(), str(tokenizer), limit, shorten, folder)
  return dialogues.Dialogues(folder)


def test_a_shard_holds_every_chat_in_its_place(smollm2_path, tmp_path):
  file = _write_chats(tmp_path / "chats.jsonl", 30)
  found = _shard(file, smollm2_path, tmp_path / "shard")
  assert len(found) == 30 and list(found.sources) == list(range(30))
  tokenizer = Tokenizer.load(smollm2_path)
  for number, (_, messages) in enumerate(dialogues.conversations(str(file), Layout())):
    wanted, example = dialogues.encode(messages, tokenizer, 200), found[number]
    for name in ("inputs", "targets", "learned"):
      assert np.array_equal(getattr(wanted, name), getattr(example, name))
  assert found.lengths("targets").tolist() == [len(found[n].targets) for n in range(30)]


def test_chats_that_do_not_fit_are_refused_or_counted(smollm2_path, tmp_path):
  file = _write_chats(tmp_path / "chats.jsonl", 4)
  with file.open("a") as more:
    long = [{"role": "user", "content": "on and " * 99}, {"role": "assistant", "content": "on"}]
    more.write(json.dumps({"messages": long}) + "\n")
  with pytest.raises(
    UserError, match=r"chats.jsonl: 3 of 5 chats have more than --source_length 50 tokens .* up to 2\d\d"
  ):
    _shard(file, smollm2_path, tmp_path / "refused", 50)
  found = _shard(file, smollm2_path, tmp_path / "shard", 50, shorten=True)
  assert len(found) == 4 and np.load(tmp_path / "shard" / "truncated.npy").tolist() == [1, 3]
  assert np.load(tmp_path / "shard" / "left_out.npy").tolist() == [4]


FAULTS = {
  "nobody asks": [{"role": "assistant", "content": "a"}],
  "nobody answers": [{"role": "user", "content": "a"}],
  "a turn of nobody": [{"role": "user", "content": "a"}, {"role": "stranger", "content": "b"}],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_chat_that_is_none_is_told_by_its_line(fault, tmp_path):
  file = _write_chats(tmp_path / "chats.jsonl", 2)
  with file.open("a") as more:
    more.write(json.dumps({"messages": FAULTS[fault]}) + "\n")
  with pytest.raises(UserError, match=r"chats.jsonl:3: "):
    list(dialogues.conversations(str(file), Layout()))


def test_rows_that_are_no_chats_are_a_question_and_an_answer(tmp_path):
  (tmp_path / "rows.jsonl").write_text('{"input": "1 + 1?", "target": "2"}\n')
  ((line, messages),) = dialogues.conversations(str(tmp_path / "rows.jsonl"), Layout())
  assert line == 1 and [message["content"] for message in messages] == ["1 + 1?", "2"]
