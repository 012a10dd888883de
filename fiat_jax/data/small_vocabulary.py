"""A vocabulary for a small T5: SentencePiece's unigram model of a few texts, with T5's marks and extra ids."""

from __future__ import annotations

import pathlib
from collections.abc import Iterable


def write_vocabulary(folder: pathlib.Path, texts: Iterable[str], size: int) -> int:
  """Writes `spiece.model` of at most `size` pieces; returns how many ids there are, 100 extra ones counted."""
  import sentencepiece
  from transformers import T5Tokenizer

  folder.mkdir(parents=True, exist_ok=True)
  sentencepiece.SentencePieceTrainer.train(  # pyright: ignore[reportAttributeAccessIssue]  added at run time
    sentence_iterator=iter(texts),
    model_prefix=str(folder / "spiece"),
    vocab_size=size,
    character_coverage=1.0,
    hard_vocab_limit=False,
    pad_id=0,
    eos_id=1,
    unk_id=2,
    bos_id=-1,
    num_threads=1,
    minloglevel=2,
  )
  (folder / "spiece.vocab").unlink()
  tokenizer = T5Tokenizer.from_pretrained(folder)
  tokenizer.save_pretrained(folder)
  return len(tokenizer)
