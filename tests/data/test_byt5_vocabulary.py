"""ByT5's bytes: the ids of transformers' own tokenizer and of SeqIO."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import seqio
from transformers import ByT5Tokenizer

from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.data.vocabularies import PromptVocabulary, TextVocabulary

TEXTS = [
  "Life is like a box of chocolates.",
  "  two   blanks\nand\ta line end ",
  "Größe “quoted” ভারতের 東京 \N{GRINNING FACE} \x00\x7f",
  "",
]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
  folder: Path = tmp_path_factory.mktemp("byt5")
  ByT5Tokenizer().save_pretrained(folder)
  (folder / "config.json").write_text(json.dumps({"model_type": "t5"}))
  return Tokenizer.load(folder)


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_transformers_and_seqio(tokenizer: Tokenizer, text: str):
  theirs = ByT5Tokenizer()
  assert tokenizer.encode(text) == theirs(text, add_special_tokens=False)["input_ids"]
  assert tokenizer.encode(text) == list(seqio.ByteVocabulary(extra_ids=125).encode(text))
  assert TextVocabulary(tokenizer).encode(text) == tokenizer.encode(text)
  assert tokenizer.encode_prompt(text) == theirs(text)["input_ids"] == PromptVocabulary(tokenizer).encode(text)
  assert tokenizer.decode(tokenizer.encode(text)) == text


def test_marks_and_extra_ids_stand_where_byt5_has_them(tokenizer: Tokenizer):
  theirs = ByT5Tokenizer()
  assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id, tokenizer.vocab_size) == (0, 1, None, 384)
  assert tokenizer.stop_ids == (1,) and tokenizer.for_encoder
  for n in (0, 1, 124):
    token = f"<extra_id_{n}>"
    assert tokenizer.hugging_face.convert_tokens_to_ids(token) == theirs.convert_tokens_to_ids(token)


def test_what_looks_like_a_mark_is_spelt_out_in_rows(tokenizer: Tokenizer):
  assert tokenizer.encode("a</s>") == [byte + 3 for byte in b"a</s>"]
