"""Span corruption: nothing is lost, as much goes as was asked for, and a seed gives the same spans again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import seqio
import t5 as small
from hypothesis import given, settings
from hypothesis import strategies as st

from fiat_jax.data.corruption import corrupt, noise_spans, spans_of
from fiat_jax.data.rows import Layout
from fiat_jax.data.spans import span_corruption_task
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError

EXTRA = 1000  # above every id below


def restored(inputs: np.ndarray, targets: np.ndarray) -> list[int]:
  """The text again: each extra id of the input is followed up in the target."""
  after: dict[int, list[int]] = {}
  for id in targets.tolist():
    if id > 500:
      key = id
      after[key] = []
    else:
      after[key].append(id)
  return [token for id in inputs.tolist() for token in (after.get(id, []) if id > 500 else [id])]


@settings(max_examples=200, deadline=None)
@given(length=st.integers(1, 400), density=st.floats(0.05, 0.6), mean=st.floats(1, 8), seed=st.integers(0, 9))
def test_input_and_target_together_are_the_text(length: int, density: float, mean: float, seed: int):
  ids = np.arange(1, length + 1, dtype=np.int32)
  gone = noise_spans(length, np.random.default_rng(seed), density, mean)
  inputs, targets = corrupt(ids, gone, EXTRA - np.arange(400))
  assert [id for id in inputs if id <= 500] == ids[~gone].tolist()
  extras = [id for id in inputs.tolist() if id > 500]
  assert extras == list(range(EXTRA, EXTRA - len(extras), -1))
  if length > 1:
    assert gone.sum() == np.clip(round(length * density), 1, length - 1)
    assert not gone[0] and gone[-1]
    assert [id for id in targets.tolist() if id <= 500] == ids[gone].tolist()
    runs = np.flatnonzero(np.diff(gone.astype(int)) == 1)
    assert len(runs) == len(extras)
  noise, spans = spans_of(np.array([length]), density, mean)
  assert (gone.sum(), len(extras)) == (noise[0], spans[0])


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, str]:
  path: Path = tmp_path_factory.mktemp("rows") / "train.jsonl"
  texts = ["the quick brown fox jumps over the lazy dog " * 6, "short"]
  path.write_text("\n".join(json.dumps({"id": f"r{n}", "text": text}) for n, text in enumerate(texts)))
  return {"train": str(path)}


def test_a_task_cuts_long_texts_into_pieces_and_a_seed_repeats(files):
  vocabulary = seqio.ByteVocabulary(extra_ids=125)
  task = span_corruption_task("spans_test", files, Layout(input="{text}"), vocabulary, length=100)
  read = lambda seed: list(task.get_dataset(None, "train", shuffle=False, seed=seed).as_numpy_iterator())  # noqa: E731
  first, again, other = read(1), read(1), read(2)
  assert len(first) == 4  # 264 bytes in three pieces, and the short text
  for one, two in zip(first, again, strict=True):
    np.testing.assert_array_equal(one["inputs"], two["inputs"])
  pairs = zip(first, other, strict=True)
  assert any(not np.array_equal(one["inputs"], two["inputs"]) for one, two in pairs)
  assert all(example[name][-1] == 1 for example in first for name in ("inputs", "targets"))
  assert all(example["inputs"].max() == 383 for example in first)


@pytest.mark.parametrize("appended", [0, 100], ids=["in the file", "appended"])
def test_extra_ids_are_those_of_the_same_file_through_transformers(files, tmp_path, appended):
  folder = small.write_vocabulary(tmp_path)
  if not appended:
    small.add_extra_ids(folder)
  vocabulary = seqio.SentencePieceVocabulary(str(folder / "spiece.model"), extra_ids=appended)
  task = span_corruption_task(f"spans_{appended}_appended", files, Layout(input="{text}"), vocabulary, length=100)
  theirs = Tokenizer.load(folder).hugging_face
  first = theirs.convert_tokens_to_ids("<extra_id_0>")
  assert first == vocabulary.vocab_size - 1 == len(theirs) - 1
  for example in task.get_dataset(None, "train", shuffle=False, seed=1).as_numpy_iterator():
    marks = [id for id in example["targets"].tolist() if id > first - 100]
    assert marks == [theirs.convert_tokens_to_ids(f"<extra_id_{n}>") for n in range(len(marks))] and marks
    assert example["inputs"].max() == first


def test_more_spans_than_extra_ids_are_refused(files):
  task = span_corruption_task(
    "spans_refused", files, Layout(input="{text}"), seqio.ByteVocabulary(extra_ids=3), length=100
  )
  with pytest.raises(UserError, match="up to 5 spans, and the vocabulary 3 extra ids"):
    task.get_dataset(None, "train", shuffle=False)
