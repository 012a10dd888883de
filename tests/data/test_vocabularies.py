"""SeqIO's view of a tokenizer: in Python, in TensorFlow, and through a SeqIO preprocessor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import seqio
import tensorflow as tf

from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.data.vocabularies import PromptVocabulary, TextVocabulary

TEXT = "ঢাকা <|im_end|> 12  ok\n"


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
  return Tokenizer.load(smollm2_path)


def test_text_is_encoded_alike_in_python_and_tensorflow(tokenizer: Tokenizer):
  vocabulary = TextVocabulary(tokenizer)
  assert vocabulary.encode(TEXT) == tokenizer.encode(TEXT)
  ids = vocabulary.encode_tf(tf.constant(TEXT))
  assert ids.dtype == tf.int32
  np.testing.assert_array_equal(ids, tokenizer.encode(TEXT))
  assert vocabulary.decode(vocabulary.encode(TEXT)) == TEXT
  assert vocabulary.decode_tf(ids).numpy().decode() == TEXT


def test_a_prompt_is_one_user_turn(tokenizer: Tokenizer):
  vocabulary = PromptVocabulary(tokenizer)
  assert vocabulary.encode(TEXT) == tokenizer.encode_prompt(TEXT)
  np.testing.assert_array_equal(vocabulary.encode_tf(tf.constant(TEXT)), tokenizer.encode_prompt(TEXT))


def test_empty_text_has_no_ids(tokenizer: Tokenizer):
  ids = TextVocabulary(tokenizer).encode_tf(tf.constant(""))
  assert ids.shape == (0,) and ids.dtype == tf.int32


def test_decoding_stops_at_the_end_mark(tokenizer: Tokenizer):
  vocabulary = TextVocabulary(tokenizer)
  ids = [*tokenizer.encode("Paris"), tokenizer.end_id, *tokenizer.encode("London")]
  assert vocabulary.decode(ids) == "Paris"
  texts = vocabulary.decode_tf(tf.constant([ids, ids[::-1]]))
  assert texts.shape == (2,) and texts[0].numpy() == b"Paris"


def test_ids_and_size(tokenizer: Tokenizer):
  vocabulary = TextVocabulary(tokenizer)
  assert (vocabulary.bos_id, vocabulary.eos_id, vocabulary.pad_id, vocabulary.unk_id) == (1, 2, 2, 0)
  assert (vocabulary.vocab_size, vocabulary.extra_ids) == (49152, 0)


def test_equal_when_the_tokenizers_give_the_same_ids(tokenizer: Tokenizer, smollm2_path: Path):
  assert TextVocabulary(tokenizer) == TextVocabulary(smollm2_path)
  assert hash(TextVocabulary(tokenizer)) == hash(TextVocabulary(smollm2_path))
  assert TextVocabulary(tokenizer) != PromptVocabulary(tokenizer)
  assert TextVocabulary(tokenizer) != seqio.ByteVocabulary()


def test_a_seqio_pipeline_tokenizes_and_appends_the_end_mark(tokenizer: Tokenizer):
  features = {
    "inputs": seqio.Feature(PromptVocabulary(tokenizer), add_eos=False),
    "targets": seqio.Feature(TextVocabulary(tokenizer), add_eos=True),
  }
  rows = {"inputs": ["Capital of France?", ""], "targets": ["Paris", TEXT]}
  dataset = seqio.preprocessors.tokenize(tf.data.Dataset.from_tensor_slices(rows), features)
  examples = list(seqio.preprocessors.append_eos(dataset, features).as_numpy_iterator())
  for row, example in enumerate(examples):
    assert example["inputs"].tolist() == tokenizer.encode_prompt(rows["inputs"][row])
    assert example["targets"].tolist() == [*tokenizer.encode(rows["targets"][row]), tokenizer.eos_id]
