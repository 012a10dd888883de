"""Near duplicates: rows of different groups whose inputs share most of their words, found by MinHash."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

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
_CHUNK = 1 << 16
_STRIDE = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Near:
  """Two rows that are nearly the same, with their splits; `similarity` is the Jaccard index of their shingles."""

  splits: tuple[str, str]
  rows: tuple[Row, Row]
  similarity: float


def text_of(row: Row) -> str:
  """What is compared: the columns of the input, without the words of the template."""
  return "\n".join(row.fields.values())


def shingles(text: str) -> frozenset[str]:
  """Runs of three words (`words.words`); all words of a text that has fewer; none where there is no word."""
  found = words(text)
  if len(found) <= SHINGLE:
    return frozenset([" ".join(found)] if found else [])
  return frozenset(map(" ".join, zip(*(found[n:] for n in range(SHINGLE)), strict=False)))


def near(splits: Mapping[str, Sequence[Row]], on_rows: Callable[[int], object] = lambda count: None) -> list[Near]:
  """For each row, at most one near duplicate a split among the rows before it, the splits in their order.

  A pair counts from a Jaccard index of 0.8 over shingles, computed exactly. Rows of one group are no duplicates of
  one another, nor are rows of the same input and target (`audit.overlaps` tells those). Of more than 9 rows that are
  all alike, each is compared with some. Memory is a few hundred bytes a row; time grows with the number of rows.

  Args:
    on_rows: called with the number of rows as they are hashed, some at a time.
  """
  places = [(split, row) for split, rows in splits.items() for row in _distinct(rows)]
  order = {split: number for number, split in enumerate(splits)}
  numbers = np.array([order[split] for split, _ in places], int)
  signatures = _signatures([row for _, row in places], on_rows)
  buckets = np.stack([_buckets(band) for band in np.split(signatures, BANDS, axis=1)], axis=1)
  shingled = functools.lru_cache(maxsize=4096)(lambda number: shingles(text_of(places[number][1])))
  done = np.zeros((len(places), len(splits)), bool)
  tries, failed = np.zeros(len(places), int), set[tuple[int, int]]()
  found: dict[tuple[int, int], Near] = {}
  for band in range(BANDS):
    pairs = _pairs(buckets[:, band], buckets[:, (band + 1) % BANDS], numbers)
    pairs = pairs[~done[pairs[:, 1], numbers[pairs[:, 0]]] & (tries[pairs[:, 1]] < TRIES)]
    for one, other in _alike(pairs, signatures).tolist():
      (first, row), (second, again) = places[one], places[other]
      if done[other, order[first]] or tries[other] >= TRIES or (one, other) in failed or _known(row, again):
        continue
      similarity = jaccard(shingled(one), shingled(other))
      if similarity >= THRESHOLD:
        done[other, order[first]] = True
        found[other, order[first]] = Near(splits=(first, second), rows=(row, again), similarity=similarity)
      else:
        tries[other] += 1
        failed.add((one, other))
  return [found[key] for key in sorted(found)]


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
  """What both hold over what either holds; 0 where both are empty."""
  shared = len(one & other)
  return shared / (len(one) + len(other) - shared) if shared else 0.0


def _distinct(rows: Sequence[Row]) -> list[Row]:
  """The first of each input and target."""
  return list({(row.x, row.targets): row for row in reversed(rows)}.values())[::-1]


def _signatures(rows: Sequence[Row], on_rows: Callable[[int], object]) -> np.ndarray:
  """[N, 64] minima of 64 hash functions over each row's shingles; a row without words gets one of its own."""
  from datasketch import MinHash

  def hashed() -> Iterator[set[int]]:
    for number, row in enumerate(rows):
      if number % _STRIDE == 0:
        on_rows(min(_STRIDE, len(rows) - number))
      yield {zlib.crc32(shingle.encode()) for shingle in shingles(text_of(row))} or {number}

  signatures = np.empty((len(rows), BANDS * BAND), np.uint32)
  minima = MinHash.generator(hashed(), num_perm=BANDS * BAND, hashfunc=lambda value: value, scheme="affine32")
  for number, minhash in enumerate(minima):
    signatures[number] = minhash.hashvalues
  return signatures


def _known(one: Row, other: Row) -> bool:
  return one.group == other.group or (one.x == other.x and one.targets == other.targets)


def _buckets(band: np.ndarray) -> np.ndarray:
  """[N] equal numbers where rows of hashes [N, BAND] are equal.

  datasketch's own index takes 31 s and 0.8 GB where sorting takes 0.3 s (100,000 rows).
  """
  keys = np.ascontiguousarray(band).view(f"V{band.itemsize * band.shape[1]}").ravel()
  return np.unique(keys, return_inverse=True)[1]


def _pairs(bucket: np.ndarray, finer: np.ndarray, splits: np.ndarray) -> np.ndarray:
  """[P, 2] rows of the same bucket, the smaller number first: neighbours, and the first row of every split before.

  Within a bucket, rows that share the `finer` bucket too are neighbours.
  """
  order = np.lexsort((finer, bucket))
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
