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
ESTIMATE = THRESHOLD - 0.2
# In a band a row is compared with so many before it: where thousands are alike, not with all.
NEIGHBOURS = 8
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
  all alike, each is compared with some. Memory is 256 bytes a row; time grows with the number of rows.

  Args:
    on_rows: called with the number of rows as they are hashed, some at a time.
  """
  places = [(split, row) for split, rows in splits.items() for row in _distinct(rows)]
  signatures = _signatures([row for _, row in places], on_rows)
  order = {split: number for number, split in enumerate(splits)}
  numbers = np.array([order[split] for split, _ in places], int)
  shingled = functools.lru_cache(maxsize=1024)(lambda number: shingles(text_of(places[number][1])))
  found: dict[tuple[int, str], Near] = {}
  for one, other in _candidates(signatures, numbers):
    (first, row), (second, again) = places[one], places[other]
    if (other, first) in found or row.group == again.group or (row.x, row.targets) == (again.x, again.targets):
      continue
    similarity = jaccard(shingled(one), shingled(other))
    if similarity >= THRESHOLD:
      found[other, first] = Near(splits=(first, second), rows=(row, again), similarity=similarity)
  return [found[key] for key in sorted(found, key=lambda key: (key[0], order[key[1]]))]


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


def _candidates(signatures: np.ndarray, splits: np.ndarray) -> Iterator[tuple[int, int]]:
  """Pairs of row numbers, each once, the smaller first: alike in a band, and alike by the estimate.

  datasketch's own index takes 31 s and 0.8 GB where these sorts take 0.3 s (100,000 rows).
  """
  seen: set[tuple[int, int]] = set()
  for band in range(BANDS):
    keys = np.ascontiguousarray(signatures[:, band * BAND : (band + 1) * BAND]).view(f"V{4 * BAND}").ravel()
    _, bucket = np.unique(keys, return_inverse=True)
    pairs = _pairs(bucket, splits)
    for start in range(0, len(pairs), _CHUNK):
      chunk = pairs[start : start + _CHUNK]
      alike = (signatures[chunk[:, 0]] == signatures[chunk[:, 1]]).mean(axis=1) >= ESTIMATE
      fresh = set(map(tuple, chunk[alike].tolist())) - seen
      seen |= fresh
      yield from sorted(fresh)


def _pairs(bucket: np.ndarray, splits: np.ndarray) -> np.ndarray:
  """[P, 2]: each row with its neighbours in the same bucket, and with the bucket's first row of every split before."""
  order = np.argsort(bucket, kind="stable")
  found = []
  for distance in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
    same = bucket[order[:-distance]] == bucket[order[distance:]]
    found.append(np.stack([order[:-distance][same], order[distance:][same]], axis=1))
  for split in np.unique(splits):
    firsts = np.full(bucket.max(initial=0) + 1, -1)
    members = np.flatnonzero(splits == split)[::-1]
    firsts[bucket[members]] = members  # the last that is written, so the first, stays
    later = np.flatnonzero(splits >= split)
    first = firsts[bucket[later]]
    known = (first >= 0) & (first < later)
    found.append(np.stack([first[known], later[known]], axis=1))
  return np.unique(np.concatenate(found), axis=0) if found else np.empty((0, 2), int)
