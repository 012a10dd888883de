"""ByT5's vocabulary as a fast tokenizer: 0 padding, 1 end mark, 2 unknown, then the 256 bytes, then 125 extra ids.

transformers has it in Python alone (Xue et al., 2022, §3.2: no file, an id is a byte and three).
"""

from __future__ import annotations

from typing import Any

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

SPECIAL = ("<pad>", "</s>", "<unk>")
EXTRA_IDS = 125


def byt5_tokenizer() -> Any:
  """A transformers tokenizer whose ids are those of `transformers.ByT5Tokenizer`."""
  from transformers import PreTrainedTokenizerFast

  vocabulary = {token: number for number, token in enumerate(SPECIAL)}
  vocabulary |= {character: len(SPECIAL) + byte for byte, character in enumerate(byte_characters())}
  backend = tokenizers.Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)  # pyright: ignore[reportAttributeAccessIssue]
  backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
  # The extra ids count upwards here, unlike those of SentencePiece vocabularies.
  extra = [f"<extra_id_{n}>" for n in range(EXTRA_IDS)]
  backend.add_special_tokens([tokenizers.AddedToken(token, special=True) for token in (*SPECIAL, *extra)])
  pad, end, unknown = SPECIAL
  return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token=pad, eos_token=end, unk_token=unknown)


def byte_characters() -> list[str]:
  """The printable character that stands for each byte in byte-level tokenizers."""
  printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
  rest = [byte for byte in range(256) if byte not in printable]
  return [chr(byte if byte in printable else 256 + rest.index(byte)) for byte in range(256)]
