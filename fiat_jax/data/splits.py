"""One file of rows dealt into training, validation and test rows.

A split is a path like any other: `my.csv[test of train=0.7,validation=0.1,test=0.2 seed 0]` names the test rows of the
file, after a slice if there is one. `Settings.files()` writes such paths for DATA, so that whatever reads rows (the
tokenising process, digests, predictions) needs to know nothing of splits, and errors name the file's own lines. A split
may be split again, as validation rows are where prompts are searched: another suffix behind the first.

Which rows those are is a pure function of the file, the columns and the path: nothing has to be kept for a run to go
on with the rows it began with. The run folder's `splits.json` says which they are all the same, for people and other
programs, with the SHA-256 of the data; a run that finds another split there, because the data changed, is refused.

Rows of one group, and rows of the same input, are dealt as one. What is dealt goes, large groups first and in a seeded
order among equals, to the split that has the smallest part of its share of the row's languages, then of all rows.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from fiat_jax.errors import UserError

SUFFIX = re.compile(
  r"^(?P<path>.*)\[(?P<name>\w+(?:\+\w+)*) of (?P<shares>\w+=[\d.]+(?:,\w+=[\d.]+)*) seed (?P<seed>-?\d+)\]$", re.S
)


class Member(Protocol):
  """What dealing needs to know of a row."""

  @property
  def id(self) -> str: ...
  @property
  def lang(self) -> str: ...
  @property
  def group(self) -> str: ...
  @property
  def x(self) -> str: ...


@dataclasses.dataclass(frozen=True)
class Split:
  """One of the splits that the shares make, or several joined by `+`; the shares need not sum to 1."""

  name: str
  shares: tuple[tuple[str, float], ...]
  seed: int

  @property
  def names(self) -> list[str]:
    """Those that are joined."""
    return self.name.split("+")

  def __str__(self) -> str:
    return f"{self.name} of {','.join(f'{name}={share:g}' for name, share in self.shares)} seed {self.seed}"


def parse(path: str) -> tuple[str, Split | None]:
  """The path without its split, which may be a split too, and the split.

  Raises:
    UserError: the split is none of those that are dealt, or a share is no positive number.
  """
  match = SUFFIX.match(path)
  if not match:
    return path, None
  shares = dict(pair.split("=") for pair in match["shares"].split(","))
  try:
    split = Split(match["name"], tuple((name, float(share)) for name, share in shares.items()), int(match["seed"]))
  except ValueError:
    raise UserError(f"the shares {match['shares']} are no numbers", match["path"]) from None
  if not set(split.names) <= set(shares) or min(share for _, share in split.shares) <= 0:
    raise UserError(f"no split {split.name!r} with a share above 0 is dealt: {match['shares']}", match["path"])
  return match["path"], split


def root(path: str) -> str:
  """The path without its split, and without those that this is a split of."""
  whole, split = parse(path)
  return root(whole) if split else whole


def halves(path: str, share: float, seed: int) -> tuple[str, str]:
  """The paths of two parts of what `path` names: of this share of its rows, and of the others."""
  shares = (("search", share), ("others", 1 - share))
  search, others = (f"{path}[{Split(name, shares, seed)}]" for name, _ in shares)
  return search, others


def paths(data: str, given: Collection[str], validation_share: float, test_share: float, seed: int) -> dict[str, str]:
  """The paths of the splits that `data` is dealt into: those that are not given, and whose share is not 0."""
  of_data = {"validation": validation_share, "test": test_share}
  of_data = {"train": 1 - sum(of_data.values())} | of_data
  shares = tuple((split, share) for split, share in of_data.items() if share and split not in given)
  return {split: f"{data}[{Split(split, shares, seed)}]" for split, _ in shares}


def folds(data: str, count: int, seed: int) -> list[dict[str, str]]:
  """For each of `count` folds the paths of its splits: it is test, the next one validation, the others train."""
  names = [f"fold{n}" for n in range(count)]
  shares = tuple((name, 1 / count) for name in names)
  path = lambda *parts: f"{data}[{Split('+'.join(parts), shares, seed)}]"  # noqa: E731
  turned = [names[n:] + names[:n] for n in range(count)]
  return [{"train": path(*rest), "validation": path(second), "test": path(first)} for first, second, *rest in turned]


def deal(rows: Sequence[Member], shares: Mapping[str, float], seed: int, path: str | pathlib.Path) -> list[str]:
  """The name of the split of every row.

  Raises:
    UserError: there are fewer groups than splits.
  """
  groups = sorted(
    _groups(rows), key=lambda group: (-len(group), hashlib.sha256(f"{seed} {rows[group[0]].id}".encode()).digest())
  )
  if len(groups) < len(shares):
    raise UserError(
      f"{len(rows)} rows in {len(groups)} group{'' if len(groups) == 1 else 's'} cannot be dealt into "
      f"{', '.join(shares)}: at least {len(shares)} groups are needed (rows of one --group, or of the same input, "
      "stay together)",
      path,
    )
  spoken = [row.lang for row in rows]
  everywhere = collections.Counter(spoken)
  held = {name: collections.Counter[str]() for name in shares}
  dealt = [""] * len(rows)
  for group in groups:
    langs = collections.Counter(spoken[n] for n in group)

    def lacks(name: str, langs: Mapping[str, int] = langs) -> tuple[float, float, float]:
      share = shares[name] / sum(shares.values())
      of_langs = sum(n * (1 - held[name][lang] / (share * everywhere[lang])) for lang, n in langs.items())
      return of_langs, -held[name].total() / share, share

    chosen = max(shares, key=lacks)
    held[chosen] += langs
    for n in group:
      dealt[n] = chosen
  return dealt


def _groups(rows: Sequence[Member]) -> list[list[int]]:
  """Positions of the rows that must stay together: those that share a group or an input, directly or through others."""
  parent = list(range(len(rows)))

  def root(n: int) -> int:
    while parent[n] != n:
      parent[n] = n = parent[parent[n]]
    return n

  first: dict[bytes, int] = {}  # by hash: all inputs together may be more than memory holds
  for n, row in enumerate(rows):
    for text in (f"group {row.group}", f"x {row.x}"):
      key = hashlib.blake2b(text.encode(), digest_size=16).digest()
      one, other = sorted((root(first.setdefault(key, n)), root(n)))
      parent[other] = one
  together: dict[int, list[int]] = {}
  for n in range(len(rows)):
    together.setdefault(root(n), []).append(n)
  return list(together.values())


def record(files: Mapping[str, str], rows: Mapping[str, Sequence[Member]], digest: str) -> dict[str, Any]:
  """What `splits.json` holds: of the files that are splits of one, the ids of their rows; `digest` is that file's.

  Of a split of a split the outer one is told of.
  """
  dealt = {name: split for name, path in files.items() if (split := _outermost(path))}
  first = next(iter(dealt))
  return {
    "data": root(files[first]),
    "sha256": digest,
    "seed": dealt[first].seed,
    "shares": dict(dealt[first].shares),
    "splits": {name: [row.id for row in rows[name]] for name in dealt},
  }


def _outermost(path: str) -> Split | None:
  """The split of the file itself."""
  whole, split = parse(path)
  return (_outermost(whole) or split) if split else None


def check(folder: pathlib.Path, found: Mapping[str, Any]) -> bool:
  """Whether the folder holds a `splits.json`; the splits that were found must be as they are there.

  Raises:
    UserError: they are others, or the file is damaged.
  """
  file = folder / "splits.json"
  if not file.exists():
    return False
  try:
    kept = dict(json.loads(file.read_text(encoding="utf-8"))["splits"])
  except (OSError, ValueError, KeyError, TypeError) as e:
    raise UserError(f"cannot be read ({type(e).__name__}): delete it, and it is written again", file) from None
  for name, ids in found["splits"].items():
    if kept.get(name) != ids:
      raise UserError(
        f"the rows of {name} are not those that {file} names: the data or its columns changed since the run began, and "
        "rows to be tested on may have been trained on. Give the data as it was, or a new --model_dir",
        found["data"],
      )
  return True
