"""Pieces of texts as examples: each epoch corrupts anew, validation never; the sentinels are the vocabulary's own."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import t5 as small

from fiat_jax.data.batches import Batches, choose_shape
from fiat_jax.data.byt5_tokenizer import byt5_tokenizer
from fiat_jax.data.corruption import DENSITY, MEAN_SPAN, TRAINING, CorruptedPieces, Corruption, corrupt, spans_of
from fiat_jax.data.pairs import Pairs
from fiat_jax.data.rows import Layout
from fiat_jax.data.tokenise import ShardSpec, Tokenising
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError

TEXTS = ["red blue green apple plum sky leaf " * 12, "the sky is blue", "what colour of leaf " * 7]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
  return Tokenizer.load(small.write_model(tmp_path_factory.mktemp("t5")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer) -> Path:
  """The pieces of texts without targets, as the tokenising process writes them."""
  path = tmp_path_factory.mktemp("rows") / "texts.jsonl"
  path.write_text("\n".join(json.dumps({"id": f"r{n}", "text": text}) for n, text in enumerate(TEXTS)))
  spec = ShardSpec(
    path=str(path),
    layout=Layout(input="{text}"),
    instruction="{x}",
    use_instruction=False,
    use_reasoning=False,
    tokenizer=str(tokenizer.path),
    tokenizer_fingerprint=tokenizer.fingerprint,
    labelled=False,
    pieces=40,
  )
  return Tokenising([spec]).wait()[0]


@pytest.fixture
def pieces(folder, tokenizer) -> CorruptedPieces:
  return CorruptedPieces(folder, Corruption.of(tokenizer))


def whole(example, sentinels: tuple[int, ...]) -> list[int]:
  """The piece again: what the target says of each sentinel in its place."""
  said: dict[int, list[int]] = {}
  for id in example.targets[:-1].tolist():
    if id in sentinels:
      said[id] = []
    else:
      said[list(said)[-1]].append(id)
  return [token for id in example.inputs[:-1].tolist() for token in (said[id] if id in sentinels else [id])]


def test_numbers_of_spans_and_what_stands_for_them_are_t5_s_own(golden):
  """As recorded by golden/make_spans.py."""
  recorded = np.load(golden / "spans.npz")
  noise, spans = spans_of(np.arange(2, 2 + len(recorded["counts"])), DENSITY, MEAN_SPAN)
  np.testing.assert_array_equal(np.stack([noise, spans], axis=1), recorded["counts"])
  numbers = [name.removeprefix("gone_") for name in recorded.files if name.startswith("gone_")]
  for n in numbers:
    inputs, targets = corrupt(recorded[f"tokens_{n}"], recorded[f"gone_{n}"], 999 - np.arange(100))
    np.testing.assert_array_equal(inputs, recorded[f"inputs_{n}"])
    np.testing.assert_array_equal(targets, recorded[f"targets_{n}"])
  assert len(numbers) == 8


def test_nothing_of_a_text_is_lost_and_lengths_are_known_before(pieces, tokenizer):
  corruption = Corruption.of(tokenizer)
  texts: list[list[int]] = [[] for _ in TEXTS]
  for number, row in enumerate(pieces.sources):
    example = pieces[number]
    texts[row] += whole(example, corruption.sentinels)
    assert example.inputs[-1] == example.targets[-1] == tokenizer.end_id
    assert [len(example.inputs), len(example.targets)] == [pieces.lengths(n)[number] for n in ("inputs", "targets")]
  assert texts == [tokenizer.encode(text) for text in TEXTS]
  assert corruption.sentinels[:2] == tuple(
    tokenizer.hugging_face.convert_tokens_to_ids(["<extra_id_0>", "<extra_id_1>"])
  )


def test_each_epoch_corrupts_anew_and_a_batch_depends_on_its_number_alone(pieces):
  shape = choose_shape(pieces, 256, 4, packing=Pairs(0))
  made = lambda: Batches(pieces, size=len(pieces), seed=3, shape=shape, packing=Pairs(0))  # noqa: E731
  first, second = made()[0], made()[1]
  assert np.count_nonzero(first.encoder_tokens) == np.count_nonzero(second.encoder_tokens)
  assert not np.array_equal(np.sort(first.target_ids.ravel()), np.sort(second.target_ids.ravel()))
  np.testing.assert_array_equal(made()[1].encoder_tokens, second.encoder_tokens)
  np.testing.assert_array_equal(pieces[0].inputs, pieces[0].inputs)


def test_what_an_example_takes_does_not_grow_with_the_corpus(pieces, folder, tokenizer, monkeypatch):
  """Of each epoch there is one object, over ids that are read and checked once."""
  later = pieces.of_epoch(3, 1)
  assert later._ids is pieces._ids and later._ends is pieces._ends
  anew = CorruptedPieces(folder, Corruption.of(tokenizer), (TRAINING, 3, 1))
  for number in range(len(pieces)):
    jax.tree.map(np.testing.assert_array_equal, later[number], anew[number])
  asked, of_epoch = [], CorruptedPieces.of_epoch
  monkeypatch.setattr(CorruptedPieces, "of_epoch", lambda self, *which: asked.append(which) or of_epoch(self, *which))
  shape = choose_shape(pieces, 256, 4, packing=Pairs(0))
  batches = Batches(pieces, size=2 * len(pieces), seed=3, shape=shape, packing=Pairs(0))
  for number in (0, 0, 1):
    batches[number]
  assert asked == [(3, epoch) for epoch in range(4)]


def test_byt5_has_the_last_bytes_for_sentinels_as_it_was_pretrained():
  corruption = Corruption.of(Tokenizer(byt5_tokenizer(), for_encoder=True))
  assert (corruption.sentinels[:2], len(corruption.sentinels), corruption.mean_span) == ((258, 257), 100, 20.0)


def test_a_decoder_only_model_and_too_long_pieces_are_refused(folder, tokenizer, smollm2_path):
  with pytest.raises(UserError, match="decoder-only model"):
    Corruption.of(Tokenizer.load(smollm2_path))
  with pytest.raises(UserError, match="up to 2 spans, and the vocabulary has 1 extra ids"):
    CorruptedPieces(folder, Corruption(sentinels=(5,), end_id=1))
