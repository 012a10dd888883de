"""Near duplicates: rows of different groups whose inputs share most of their words, found by MinHash."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from fiat_jax.data.keys import Keys
from fiat_jax.data.rows import Row
from fiat_jax.data.words import words

SHINGLE = 3
THRESHOLD = 0.8
# 16 bands of 4: two texts of similarity 0.8 meet in a band with probability 0.9998.
BANDS, BAND = 16, 4
# An estimate by 64 hashes is 0.05 off at 0.8 (one standard deviation): below this nothing is looked at exactly.
ESTIMATE = THRESHOLD - 0.15
# Where thousands of rows are alike, each is compared with so many others a band, and exactly with so many in vain.
NEIGHBOURS, TRIES = 8, 8
FINER = 4  # in a full bucket, rows that share the next bands' buckets too stand side by side
_CHUNK = 1 << 16
_STRIDE = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Near:
  """Two rows that are nearly the same, by split and position; `similarity` is the Jaccard index of their shingles.

  `conflict`: their inputs are the same to the letter, and the targets differ.
  """

  splits: tuple[str, str]
  rows: tuple[int, int]
  similarity: float
  conflict: bool


def text_of(row: Row) -> str:
  """What is compared: the columns of the input, without the words of the template."""
  return "\n".join(row.fields.values())


def shingles(text: str) -> frozenset[str]:
  """Runs of three words (`words.words`); all words of a text that has fewer; none where there is no word."""
  found = words(text)
  if len(found) <= SHINGLE:
    return frozenset([" ".join(found)] if found else [])
  return frozenset(map(" ".join, zip(*(found[n:] for n in range(SHINGLE)), strict=False)))


def near(
  splits: Mapping[str, Sequence[Row]],
  keys: Mapping[str, Keys],
  on_rows: Callable[[int], object] = lambda count: None,
) -> list[Near]:
  """For each row, at most one near duplicate a split among the rows before it, the splits in their order.

  A pair counts from a Jaccard index of 0.8 over shingles, computed exactly. Rows of one group are no duplicates of
  one another, nor are rows of the same input and target (`audit.overlaps` tells those). Of more than 9 rows that are
  all alike, each is compared with some: of 1,000 twins among 20,000 rows that share 60 of 72 words, 92 % are found.
  Memory is a few hundred bytes a row; time grows with the number of rows.

  Args:
    keys: of the rows of each split.
    on_rows: called with the number of rows as they are hashed, some at a time.
  """
  names, each = list(splits), _distinct(list(keys.values()))
  row = lambda n: splits[names[each.splits[n]]][int(each.positions[n])]  # noqa: E731
  shingled = functools.lru_cache(maxsize=4096)(lambda n: shingles(text_of(row(n))))
  signatures = _signatures(map(row, range(len(each.splits))), len(each.splits), on_rows)
  buckets = np.stack([_buckets(band) for band in np.split(signatures, BANDS, axis=1)], axis=1)
  done = np.zeros((len(each.splits), len(splits)), bool)
  tries, failed = np.zeros(len(each.splits), int), set[tuple[int, int]]()
  found: dict[tuple[int, int], float] = {}
  for band in range(BANDS):
    pairs = _pairs(buckets[:, [(band + n) % BANDS for n in range(1 + FINER)]], each.splits)
    pairs = pairs[~done[pairs[:, 1], each.splits[pairs[:, 0]]] & (tries[pairs[:, 1]] < TRIES)]
    for told_elsewhere in (each.groups, each.contents):
      pairs = pairs[told_elsewhere[pairs[:, 0]] != told_elsewhere[pairs[:, 1]]]
    for one, other in _alike(pairs, signatures).tolist():
      if done[other, each.splits[one]] or tries[other] >= TRIES or (one, other) in failed:
        continue
      similarity = jaccard(shingled(one), shingled(other))
      if similarity >= THRESHOLD:
        done[other, each.splits[one]] = True
        found[other, one] = similarity
      else:
        tries[other] += 1
        failed.add((one, other))
  return [_near(names, each, one, other, found[other, one]) for other, one in sorted(found)]


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
  """What both hold over what either holds; 0 where both are empty."""
  shared = len(one & other)
  return shared / (len(one) + len(other) - shared) if shared else 0.0


class _Distinct(NamedTuple):
  """All rows but those that repeat one before, the splits in their order; [N] each."""

  splits: np.ndarray  # numbers of splits
  positions: np.ndarray
  groups: np.ndarray
  inputs: np.ndarray
  contents: np.ndarray


def _distinct(keys: Sequence[Keys]) -> _Distinct:
  kept = [of.distinct() for of in keys]
  return _Distinct(
    splits=np.repeat(np.arange(len(keys)), [len(positions) for positions in kept]),
    positions=np.concatenate(kept),
    groups=np.concatenate([of.groups[positions] for of, positions in zip(keys, kept, strict=True)]),
    inputs=np.concatenate([of.inputs[positions] for of, positions in zip(keys, kept, strict=True)]),
    contents=np.concatenate([of.contents[positions] for of, positions in zip(keys, kept, strict=True)]),
  )


def _near(names: Sequence[str], each: _Distinct, one: int, other: int, similarity: float) -> Near:
  return Near(
    splits=(names[int(each.splits[one])], names[int(each.splits[other])]),
    rows=(int(each.positions[one]), int(each.positions[other])),
    similarity=similarity,
    conflict=bool(each.inputs[one] == each.inputs[other]),
  )


def _signatures(rows: Iterable[Row], total: int, on_rows: Callable[[int], object]) -> np.ndarray:
  """[N, 64] minima of 64 hash functions over each row's shingles; a row without words gets one of its own."""
  from datasketch import MinHash

  def hashed() -> Iterator[set[int]]:
    for number, row in enumerate(rows):
      if number % _STRIDE == 0:
        on_rows(min(_STRIDE, total - number))
      yield {zlib.crc32(shingle.encode()) for shingle in shingles(text_of(row))} or {number}

  signatures = np.empty((total, BANDS * BAND), np.uint32)
  minima = MinHash.generator(hashed(), num_perm=BANDS * BAND, hashfunc=lambda value: value, scheme="affine32")
  for number, minhash in enumerate(minima):
    signatures[number] = minhash.hashvalues
  return signatures


def _buckets(band: np.ndarray) -> np.ndarray:
  """[N] equal numbers where rows of hashes [N, BAND] are equal.

  datasketch's own index takes 31 s and 0.8 GB where sorting takes 0.3 s (100,000 rows).
  """
  keys = np.ascontiguousarray(band).view(f"V{band.itemsize * band.shape[1]}").ravel()
  return np.unique(keys, return_inverse=True)[1].astype(np.int32)


def _pairs(buckets: np.ndarray, splits: np.ndarray) -> np.ndarray:
  """[P, 2] rows of the same first bucket, the smaller number first: neighbours, and the first row of each split before.

  Within a bucket, neighbours share as many of the next buckets [N, 1 + FINER] as there are such rows.
  """
  bucket, order = buckets[:, 0], np.lexsort(buckets.T[::-1])
  found = [np.empty((0, 2), int)]
  for distance in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
    same = bucket[order[:-distance]] == bucket[order[distance:]]
    found.append(np.sort(np.stack([order[:-distance][same], order[distance:][same]], axis=1), axis=1))
  for split in np.unique(splits):
    firsts = np.full(bucket.max() + 1, -1)
    members = np.flatnonzero(splits == split)[::-1]
    firsts[bucket[members]] = members  # the last that is written, so the first, stays
    first = firsts[bucket]
    later = np.flatnonzero((splits >= split) & (first >= 0) & (first < np.arange(len(bucket))))
    found.append(np.stack([first[later], later], axis=1))
  return np.unique(np.concatenate(found), axis=0)


def _alike(pairs: np.ndarray, signatures: np.ndarray) -> np.ndarray:
  """The pairs that are alike by the estimate, the most similar first."""
  estimates = [
    (signatures[chunk[:, 0]] == signatures[chunk[:, 1]]).mean(axis=1)
    for chunk in (pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK))
  ]
  estimate = np.concatenate([np.empty(0), *estimates])
  likely = np.flatnonzero(estimate >= ESTIMATE)
  return pairs[likely[np.argsort(-estimate[likely], kind="stable")]]
