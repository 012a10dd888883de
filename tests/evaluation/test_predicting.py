"""Rows to predictions with a model and a real tokenizer: generated texts, and labels chosen by likelihood."""

import numpy as np
import pytest
import tiny

from fiat_jax.data.packing import Example
from fiat_jax.data.rows import Row
from fiat_jax.decoding.engine import Engine
from fiat_jax.evaluation import latency
from fiat_jax.evaluation.evaluate import choose_label, generate
from fiat_jax.models import decoder, pretrained
from fiat_jax.models.lora import LoraConfig

QUESTIONS = {"a": "Which river is it?", "b": "নদীটির নাম কী?", "c": "Welcher Fluss?"}
LABELS = ("Nile", "Ganges", "the river Rhine")


@pytest.fixture(scope="module")
def described(tiny_checkpoint):
  return pretrained.describe(tiny_checkpoint, dtype="float32", lora=LoraConfig())


@pytest.fixture(scope="module")
def params(described):
  return pretrained.load(described)


@pytest.fixture(scope="module")
def rows_and_shard(tmp_path_factory, described):
  rows, examples = [], []
  for number, (name, question) in enumerate(QUESTIONS.items()):
    fields = {"lang": "en", "group": name, "x": question, "targets": ("Nile",), "reasoning": None, "fields": {}}
    rows.append(Row(id=name, labels=LABELS[: number + 1], line=number + 1, **fields))
    ids = [np.asarray(x, np.int32) for x in (described.tokenizer.encode_prompt(question), [1])]
    examples.append(Example(*ids, number))
  return rows, tiny.write_shard(tmp_path_factory.mktemp("shard"), examples)


def engine_of(described, params, stop_ids):
  count = described.module.config.layers
  return Engine(described.module, decoder.unstack({"params": params}, count), stop_ids=stop_ids, slots=2)


def greedy(described, params, prompt, count):
  ids = list(prompt)
  for _ in range(count):
    ids.append(int(tiny.logits_of(described.module, {"params": params}, ids)[-1].argmax()))
  return ids[len(prompt) :]


def test_a_generated_answer_is_the_decoded_greedy_continuation(described, params, rows_and_shard):
  (rows, shard), done = rows_and_shard, []
  engine = engine_of(described, params, stop_ids=[])
  predictions = generate(engine, described.tokenizer, rows, shard, target_length=4, on_done=lambda: done.append(1))
  assert len(done) == len(rows) and [p.row for p in predictions] == rows
  for number, p in enumerate(predictions):
    continuation = greedy(described, params, shard[number].inputs.tolist(), 4)
    assert p.text == described.tokenizer.decode(continuation).strip()
    assert p.fault == ("unfinished" if p.text else "empty")
    assert p.logprob is not None and p.logprob < 0


def test_an_answer_that_ends_at_once_is_empty_and_one_that_ends_later_is_whole(described, params, rows_and_shard):
  rows, shard = rows_and_shard
  continuations = [greedy(described, params, shard[n].inputs.tolist(), 4) for n in range(len(rows))]
  first = engine_of(described, params, stop_ids=[c[0] for c in continuations])
  ended = generate(first, described.tokenizer, rows, shard, target_length=4, on_done=lambda: None)
  assert [(p.text, p.fault) for p in ended] == [("", "empty")] * len(rows)
  tokens = continuations[0]
  stop = next(n for n, token in enumerate(tokens) if n and token not in tokens[:n])
  later = engine_of(described, params, stop_ids=[tokens[stop]])
  whole, *_ = generate(later, described.tokenizer, rows[:1], shard, target_length=4, on_done=lambda: None)
  text = described.tokenizer.decode(tokens[:stop]).strip()
  assert (whole.text, whole.fault) == (text, "" if text else "empty")


def test_the_likeliest_label_is_chosen_end_mark_included(described, params, rows_and_shard):
  (rows, shard), done = rows_and_shard, []
  tokenizer, engine = described.tokenizer, engine_of(described, params, stop_ids=[])
  predictions = choose_label(engine, tokenizer, rows, shard, on_done=lambda: done.append(1))
  assert len(done) == len(rows)
  for number, p in enumerate(predictions):
    prompt = shard[number].inputs.tolist()
    expected = {
      label: tiny.logprobs_of(
        described.module, {"params": params}, prompt, [*tokenizer.encode(label), tokenizer.end_id]
      ).sum()
      for label in rows[number].labels
    }
    assert p.label_logprobs == pytest.approx(expected, abs=1e-3)
    assert p.text == max(expected, key=expected.__getitem__) and p.fault == ""
    assert p.logprob == max((p.label_logprobs or {}).values())


def test_each_of_the_first_choices_is_timed_alone(described, params, rows_and_shard, tmp_path):
  (rows, shard), times = rows_and_shard, 8
  engine = engine_of(described, params, stop_ids=[])
  many = tiny.write_shard(tmp_path, [shard[n % len(rows)] for n in range(len(rows) * times)])
  found = latency.of_labels(engine, described.tokenizer, rows * times, many)
  assert found["rows"] == latency.MOST and 0 < found["p50"] <= found["p95"] < 5
  assert latency.of_labels(engine, described.tokenizer, rows, shard) == {}
