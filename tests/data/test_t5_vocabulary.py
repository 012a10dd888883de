"""T5's SentencePiece vocabulary through transformers and through SeqIO: the same ids, with a hundred more for spans."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import seqio
import t5 as small
from transformers import AutoTokenizer

from fiat_jax.checkpoints.tokenizer_files import save_tokenizer
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.data.vocabularies import PromptVocabulary, TextVocabulary

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "t5_spiece.model"
TEXTS = [
  "translate English to German: That is good.",
  "  two   blanks\nand\ta line end ",
  "Größe, naïve ﬁne ½ — “quoted” … 1,234.5 %",
  "ভারতের রাজধানী কী? 東京",
  "end</s> and <pad>",
  "",
]


KINDS = [f"{made}{extra}" for made in ("published", "trained here") for extra in ("", ", with extra ids")]


@pytest.fixture(scope="module", params=KINDS)
def folder(request, tmp_path_factory) -> Path:
  """A folder with `spiece.model` alone: the published one where it is at hand, and one trained on a few lines."""
  made, _, extra = request.param.partition(", ")
  folder = tmp_path_factory.mktemp("vocabulary")
  if made == "trained here":
    train(folder)
  elif PUBLISHED.exists():
    shutil.copy(PUBLISHED, folder / "spiece.model")
  else:
    pytest.skip(f"T5's published vocabulary is not at {PUBLISHED}")
  return small.add_extra_ids(folder) if extra else folder


def train(folder: Path) -> None:
  import sentencepiece

  lines = [
    *TEXTS[:4],
    "the quick brown fox jumps over the lazy dog",
    "a small vocabulary for a small test, nothing else",
  ]
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(lines * 20),
    model_prefix=str(folder / "spiece"),
    vocab_size=80,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    minloglevel=2,
  )


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Tokenizer:
  return Tokenizer.load(folder)


def seqio_vocabulary(folder: Path) -> seqio.SentencePieceVocabulary:
  """SeqIO appends as many extra ids as it is told to, whatever the file has."""
  file = folder / "spiece.model"
  return seqio.SentencePieceVocabulary(str(file), extra_ids=0 if b"<extra_id_0>" in file.read_bytes() else 100)


def test_ids_are_those_of_seqio(folder: Path, tokenizer: Tokenizer):
  theirs = seqio_vocabulary(folder)
  for text in TEXTS:
    assert tokenizer.encode(text) == theirs.encode(text)
    assert TextVocabulary(tokenizer).encode(text) == theirs.encode(text)
    if theirs.unk_id not in theirs.encode(text):  # which SeqIO shows and transformers leaves out
      assert tokenizer.decode(tokenizer.encode(text)) == theirs.decode(theirs.encode(text))
  assert tokenizer.vocab_size == theirs.vocab_size
  assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.bos_id) == (theirs.pad_id, theirs.eos_id, None)
  for n in (0, 1, 99):
    token = f"<extra_id_{n}>"
    assert tokenizer.hugging_face.convert_tokens_to_ids(token) == tokenizer.vocab_size - 1 - n
    assert theirs.tokenizer.PieceToId(f"▁{token}") == theirs.vocab_size - 1 - n


def test_a_prompt_is_the_text_and_the_end_mark(tokenizer: Tokenizer):
  assert tokenizer.encode_prompt(TEXTS[0]) == [*tokenizer.encode(TEXTS[0]), 1]
  assert tokenizer.encode_prompts(TEXTS[:2]) == [tokenizer.encode_prompt(text) for text in TEXTS[:2]]
  assert PromptVocabulary(tokenizer).encode(TEXTS[0]) == tokenizer.encode_prompt(TEXTS[0])
  assert tokenizer.prompt_string(TEXTS[0]) == TEXTS[0] and tokenizer.stop_ids == (1,)


def test_what_is_saved_has_the_same_ids_in_transformers(tokenizer: Tokenizer, tmp_path: Path):
  (tmp_path / "config.json").write_text('{"model_type": "t5"}')
  save_tokenizer(tokenizer, tmp_path)
  again = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
  assert len(again) == tokenizer.vocab_size == Tokenizer.load(tmp_path).vocab_size
  assert again(TEXTS[0])["input_ids"] == tokenizer.encode_prompt(TEXTS[0])
  assert again.convert_tokens_to_ids("<extra_id_7>") == tokenizer.vocab_size - 8


@pytest.mark.parametrize("folder", KINDS[:2], indirect=True)
def test_the_published_ids(tokenizer: Tokenizer):
  assert tokenizer.encode(TEXTS[0]) == [13959, 1566, 12, 2968, 10, 466, 19, 207, 5]
