"""How single tokens are spelt, as bytes: a token may be part of a character, and a text is no sum of its tokens'."""

from __future__ import annotations

import functools
import json
import re

from fiat_jax.data.byt5_tokenizer import byte_characters
from fiat_jax.data.tokenizer import Tokenizer


class Spelling:
  """Of a tokenizer's tokens: byte-level BPE, or SentencePiece with or without tokens for bytes."""

  def __init__(self, tokenizer: Tokenizer):
    self.tokenizer = tokenizer
    decoder = json.loads(tokenizer.hugging_face.backend_tokenizer.to_str())["decoder"]
    self._bytes = {character: byte for byte, character in enumerate(byte_characters())}
    self._byte_level = '"ByteLevel"' in json.dumps(decoder)
    self.spelt = functools.lru_cache(maxsize=1 << 16)(self._spelt)

  def _spelt(self, id: int) -> bytes:
    """The bytes that a token stands for."""
    token = self._token(id)
    if self.tokenizer.is_control(id):
      return token.encode()
    if self._byte_level and all(character in self._bytes for character in token):
      return bytes(self._bytes[character] for character in token)
    if self.is_byte(id):
      return bytes([int(token[3:5], 16)])
    return token.replace("▁", " ").encode()

  def text(self, id: int) -> str:
    """A token for people; as OpenAI writes it where it is no whole character."""
    spelt = self.spelt(id)
    try:
      return spelt.decode()
    except UnicodeDecodeError:
      return "bytes:" + "".join(f"\\x{byte:02x}" for byte in spelt)

  def characters(self, id: int, *, first: bool = False) -> int:
    """How many characters of the text begin in the token; of an answer's `first`, some decoders leave out a blank."""
    if self.tokenizer.is_control(id):
      return 0
    spelt = self.spelt(id)
    left_out = first and spelt.startswith(b" ") and not self.tokenizer.decode([id]).startswith(" ")
    return sum(byte & 0xC0 != 0x80 for byte in spelt) - left_out

  def is_byte(self, id: int) -> bool:
    """Whether it is one byte of a character that has no token: what such a run means is known only at its end."""
    return not self._byte_level and re.fullmatch("<0x[0-9A-Fa-f]{2}>", self._token(id)) is not None

  def _token(self, id: int) -> str:
    return self.tokenizer.hugging_face.convert_ids_to_tokens(id) or ""  # a model's table may be longer
