"""SeqIO's view of a checkpoint's tokenizer. TensorFlow lives here; `tokenizer.py` does the work without it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np
import seqio
import tensorflow as tf

from fiat_jax.data.tokenizer import Tokenizer


class TextVocabulary(seqio.Vocabulary):
  """A row's text: no BOS, and what looks like a control token becomes ordinary pieces.

  SeqIO's EOS is the mark that ends an assistant's turn. `tokenizer` is one, or a checkpoint's path; of a path, `plain`
  leaves the chat template out.
  """

  def __init__(self, tokenizer: Tokenizer | str | os.PathLike[str], *, plain: bool = False):
    super().__init__(extra_ids=0)
    self.tokenizer = tokenizer if isinstance(tokenizer, Tokenizer) else Tokenizer.load(tokenizer, plain=plain)

  @property
  def bos_id(self) -> int | None:
    return self.tokenizer.bos_id

  @property
  def eos_id(self) -> int | None:
    return self.tokenizer.end_id

  @property
  def pad_id(self) -> int:
    return self.tokenizer.pad_id

  @property
  def unk_id(self) -> int | None:
    return self.tokenizer.hugging_face.unk_token_id

  @property
  def _base_vocab_size(self) -> int:
    return self.tokenizer.vocab_size

  def _encode(self, s: str) -> list[int]:
    return self.tokenizer.encode(s)

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes each text as `encode` does, many times faster than one by one."""
    return self.tokenizer.encode_batch(texts)

  def _decode(self, ids: Iterable[int]) -> str:
    return self.tokenizer.decode(ids)

  def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
    """Encodes a scalar string as int32 ids [S]."""

    def encode(text: bytes | np.ndarray) -> np.ndarray:
      content = text.item() if isinstance(text, np.ndarray) else text  # an array when eager, bytes in a graph
      return np.array(self._encode(content.decode()), np.int32)

    ids = tf.numpy_function(encode, [s], tf.int32, stateful=False)
    ids.set_shape([None])
    return ids

  def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
    """Decodes ids [..., S] as strings [...]."""

    def decode(rows: np.ndarray) -> np.ndarray:
      texts = [self._decode(row).encode() for row in rows.reshape(-1, rows.shape[-1])]
      return np.array(texts, object).reshape(rows.shape[:-1])

    texts = tf.numpy_function(decode, [ids], tf.string, stateful=False)
    texts.set_shape(ids.shape[:-1])
    return texts

  def __eq__(self, other: object) -> bool:
    return type(self) is type(other) and self.tokenizer.fingerprint == other.tokenizer.fingerprint  # pyright: ignore

  def __hash__(self) -> int:
    return hash((type(self), self.tokenizer.fingerprint))

  def __str__(self) -> str:
    return f"{type(self).__name__}({self.tokenizer.fingerprint[:12]}, size={self.vocab_size})"


class PromptVocabulary(TextVocabulary):
  """A prompt: the text as one user turn in the checkpoint's chat format, generation prompt included."""

  def _encode(self, s: str) -> list[int]:
    return self.tokenizer.encode_prompt(s)

  def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
    return self.tokenizer.encode_prompts(texts)


def encode_batch_tf(vocabulary: TextVocabulary, texts: tf.Tensor, *, end: bool) -> tf.Tensor:
  """Encodes strings [B] as the bytes of each one's int32 ids [B], with the end mark if wanted.

  Bytes, because to take apart ragged rows costs more than to encode them.
  """
  mark = [vocabulary.eos_id] if end else []

  def encode(strings: np.ndarray) -> np.ndarray:
    rows = (row + mark for row in vocabulary.encode_batch([text.decode() for text in strings]))
    return np.array([np.array(row, np.int32).tobytes() for row in rows], object)

  encoded = tf.numpy_function(encode, [texts], tf.string, stateful=False)
  encoded.set_shape([None])
  return encoded
