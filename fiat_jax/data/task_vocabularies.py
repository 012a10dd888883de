"""The vocabularies of the project's own SeqIO tasks: bytes, which need no file, and T5's, whose file is read when used.

T5X finds its model's vocabulary and a task's to be the same where both are made alike: these are as T5 1.1's gin files
make them.
"""

from __future__ import annotations

import itertools

import seqio

BYTES = seqio.ByteVocabulary(extra_ids=125)
# The hundred extra ids are in the file: a hundred more would lie outside T5's embedding of 32,128 rows.
T5 = seqio.SentencePieceVocabulary("gs://t5-data/vocabs/cc_all.32000.100extra/sentencepiece.model", extra_ids=0)


def extra_ids(vocabulary: seqio.Vocabulary) -> int:
  """How many extra ids there are, counted down from the last id; those in a SentencePiece file are among them."""
  if not isinstance(vocabulary, seqio.SentencePieceVocabulary):
    return vocabulary.extra_ids
  pieces, last = vocabulary.tokenizer, vocabulary.vocab_size - 1
  return next(n for n in itertools.count() if n > last or pieces.IdToPiece(last - n) != f"▁<extra_id_{n}>")
