"""T5's SentencePiece file as a transformers tokenizer, with the hundred extra ids that spans are marked with.

`cc_all.32000` lacks them, and T5Tokenizer appends them. `cc_all.32000.100extra` and `mc4.250000.100extra`, the files of
T5 1.1 and mT5, hold them as pieces `▁<extra_id_n>`: there their ids are the file's, as SeqIO has them.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

EXTRA_ID = re.compile(r"▁(<extra_id_\d+>)")


def t5_tokenizer(file: Path) -> Any:
  """The tokenizer of a file that lies alone; what it raises is transformers' or protobuf's own."""
  from transformers import T5Tokenizer

  model = _read(file)
  extra = [found[1] for piece in model.pieces if (found := EXTRA_ID.fullmatch(piece.piece))]
  if not extra:
    return T5Tokenizer.from_pretrained(file.parent, local_files_only=True)
  # transformers writes an extra id without the blank that SentencePiece puts before each word.
  vocabulary = [(EXTRA_ID.sub(r"\1", piece.piece), piece.score) for piece in model.pieces]
  return T5Tokenizer(
    vocab=vocabulary,
    extra_ids=0,
    additional_special_tokens=extra,
    _spm_precompiled_charsmap=model.normalizer_spec.precompiled_charsmap or None,
  )


def holds_extra_ids(file: Path) -> bool:
  """Whether the extra ids are among a file's pieces."""
  return any(EXTRA_ID.fullmatch(piece.piece) for piece in _read(file).pieces)


def _read(file: Path) -> Any:
  from sentencepiece import sentencepiece_model_pb2

  return sentencepiece_model_pb2.ModelProto.FromString(file.read_bytes())  # pyright: ignore[reportAttributeAccessIssue]
