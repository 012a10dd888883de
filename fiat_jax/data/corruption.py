"""Span corruption, T5's pretraining objective (Raffel et al., 2020, §3.1.4), on arrays: no TensorFlow here.

Random spans of a text's tokens go; the input holds one sentinel in the place of each, the target the sentinels with
what stood there. As a SeqIO preprocessor it is in `spans.py`.
"""

from __future__ import annotations

import copy
import dataclasses
import pathlib

import numpy as np

from fiat_jax.data.batches import read_ids
from fiat_jax.data.packing import Example
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError

DENSITY, MEAN_SPAN = 0.15, 3.0
BYTES_MEAN_SPAN = 20.0  # ByT5's (Xue et al., 2022, §3.2)
BYTES_SENTINELS = tuple(range(258, 158, -1))  # it reused the last byte ids, as its extra ids did not exist (§3.2)
FIXED, TRAINING = 0xF1, 0x72  # set the draws of validation apart from those of training


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruption:
  """How texts are corrupted: the n-th span that goes leaves `sentinels[n]`; input and target close with `end_id`."""

  sentinels: tuple[int, ...]
  end_id: int
  density: float = DENSITY
  mean_span: float = MEAN_SPAN

  @classmethod
  def of(cls, tokenizer: Tokenizer) -> Corruption:
    """What a tokenizer's models were pretrained with.

    Raises:
      UserError: it is a decoder-only model's, or its vocabulary has no extra ids or no end mark.
    """
    if not tokenizer.for_encoder:
      raise UserError(
        "--objective span_corruption corrupts what an encoder reads, and this is a decoder-only model: give an "
        "encoder–decoder, such as --model t5_1_1_small",
        tokenizer.path,
      )
    vocabulary = tokenizer.hugging_face.get_vocab()  # mT5's are ordinary pieces, which begin with a blank
    found = [vocabulary.get(f"<extra_id_{n}>", vocabulary.get(f"▁<extra_id_{n}>")) for n in range(1000)]
    sentinels = tuple(id for id in found if id is not None)
    if not sentinels or tokenizer.end_id is None:
      raise UserError("its vocabulary has no <extra_id_0> to stand for what is left out: take a T5's", tokenizer.path)
    if sentinels[0] < sentinels[-1]:  # those of bytes alone count upwards
      return cls(sentinels=BYTES_SENTINELS, end_id=tokenizer.end_id, mean_span=BYTES_MEAN_SPAN)
    return cls(sentinels=sentinels, end_id=tokenizer.end_id)


def spans_of(lengths: np.ndarray, density: float, mean_span: float) -> tuple[np.ndarray, np.ndarray]:
  """How many of each text's tokens go [N], and in how many spans [N]; rounded as T5 does, from float32."""
  noise = np.round(lengths.astype(np.float32) * np.float32(density))
  noise = np.minimum(np.maximum(noise, 1), lengths - 1).astype(int)
  spans = np.round(noise.astype(np.float32) / np.float32(mean_span))
  spans = np.minimum(np.maximum(spans, 1), np.minimum(noise, lengths - noise)).astype(int)
  return noise, spans


def noise_spans(length: int, generator: np.random.Generator, density: float, mean_span: float) -> np.ndarray:
  """Which of `length` tokens go [length]: spans of `mean_span` tokens on average, `density` of all, kept ones between.

  The first token stays, the last goes, as in T5's own; of a single token nothing goes.
  """
  if length < 2:
    return np.zeros(length, bool)
  noise, spans = (int(n) for n in spans_of(np.asarray(length), density, mean_span))
  parts = [_split(total, spans, generator) for total in (length - noise, noise)]
  lengths = np.stack(parts, axis=1).reshape(-1)  # kept, gone, kept, gone …
  return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def _split(total: int, parts: int, generator: np.random.Generator) -> np.ndarray:
  """A random split of `total` into so many parts of at least one."""
  cuts = np.sort(generator.permutation(total - 1)[: parts - 1]) + 1
  return np.diff(np.concatenate([[0], cuts, [total]]))


def corrupt(ids: np.ndarray, gone: np.ndarray, sentinels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Input and target of ids [S] of which some are `gone` [S]; the n-th span leaves the n-th sentinel."""
  return _with_sentinels(ids, gone, sentinels), _with_sentinels(ids, ~gone, sentinels)


def _with_sentinels(ids: np.ndarray, out: np.ndarray, sentinels: np.ndarray) -> np.ndarray:
  """The ids with each run that is `out` replaced by the next sentinel."""
  starts = out & ~np.concatenate([[False], out[:-1]])
  replaced = ids.copy()
  replaced[starts] = sentinels[: np.count_nonzero(starts)]
  return replaced[starts | ~out].astype(np.int32)


class CorruptedPieces:
  """`Examples`: pieces of texts that `data/tokenise.py` wrote, corrupted anew each epoch; as they come, always alike.

  An example is a pure function of its number, or of (seed, epoch, number).
  """

  def __init__(self, folder: pathlib.Path, corruption: Corruption, draw: tuple[int, ...] = (FIXED,)):
    """Raises UserError where a piece has more spans than there are sentinels."""
    self._folder, self._corruption, self._draw = folder, corruption, draw
    self._ids, self._ends = read_ids(folder, "targets")
    most = int(self._spans()[1].max())
    if most > len(corruption.sentinels):
      raise UserError(
        f"pieces of so many tokens have up to {most} spans, and the vocabulary has {len(corruption.sentinels)} extra "
        "ids: give a smaller --source_length"
      )

  @property
  def sources(self) -> np.ndarray:
    return np.load(self._folder / "rows.npy")

  def __len__(self) -> int:
    return len(self._ends)

  def __getitem__(self, index: int) -> Example:
    c, ids = self._corruption, np.asarray(self._ids[self._ends[index - 1] if index else 0 : self._ends[index]])
    gone = noise_spans(len(ids), np.random.default_rng((*self._draw, index)), c.density, c.mean_span)
    inputs, targets = (np.append(part, np.int32(c.end_id)) for part in corrupt(ids, gone, np.array(c.sentinels)))
    return Example(inputs, targets, int(index))

  def lengths(self, name: str) -> np.ndarray:
    noise, spans = self._spans()
    kept = np.diff(self._ends, prepend=0) - noise
    return (kept + spans if name == "inputs" else noise + np.maximum(spans, 1)) + 1

  def of_epoch(self, seed: int, epoch: int) -> CorruptedPieces:
    other = copy.copy(self)  # whose ids are read and checked already
    other._draw = (TRAINING, seed, epoch)
    return other

  def _spans(self) -> tuple[np.ndarray, np.ndarray]:
    return spans_of(np.diff(self._ends, prepend=0), self._corruption.density, self._corruption.mean_span)
