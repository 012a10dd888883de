"""Splits of one file: whole groups, every row once, the same each time."""

from __future__ import annotations

import collections
import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fiat_jax.data import splits
from fiat_jax.data.rows import Layout, digest, read_rows
from fiat_jax.errors import UserError

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
SUFFIX = "of train=0.7,validation=0.1,test=0.2 seed 0"


@dataclasses.dataclass(frozen=True)
class Member:
  id: str
  lang: str
  group: str
  x: str


ROWS = st.lists(st.tuples(*[st.integers(0, 12)] * 3), max_size=60).map(
  lambda rows: [Member(str(n), f"l{lang % 3}", f"g{group}", f"x{x}") for n, (lang, group, x) in enumerate(rows)]
)


@settings(max_examples=200, deadline=None)
@given(rows=ROWS, seed=st.integers(-3, 3))
def test_groups_and_equal_inputs_stay_together_and_no_split_is_empty(rows: list[Member], seed: int):
  try:
    dealt = splits.deal(rows, SHARES, seed, "my.csv")
  except UserError as e:
    assert "at least 3 groups are needed" in str(e)
    return
  assert set(dealt) == set(SHARES) and len(dealt) == len(rows)
  for key in ("group", "x"):
    homes = collections.defaultdict(set)
    for row, name in zip(rows, dealt, strict=True):
      homes[getattr(row, key)].add(name)
    assert all(len(names) == 1 for names in homes.values())
  assert dealt == splits.deal(rows, SHARES, seed, "my.csv")


def test_shares_are_kept_within_each_language():
  rows = [Member(str(n), "en" if n % 4 else "bn", f"g{n // 2}", str(n)) for n in range(800)]
  dealt = splits.deal(rows, SHARES, 1, "my.csv")
  for lang in ("en", "bn"):
    counts = collections.Counter(name for row, name in zip(rows, dealt, strict=True) if row.lang == lang)
    for name, share in SHARES.items():
      assert counts[name] == pytest.approx(share * counts.total(), abs=4)
  assert dealt != splits.deal(rows, SHARES, 2, "my.csv")


def write(folder: Path, rows: int) -> str:
  path = folder / "my.csv"
  path.write_text("group,input,target\n" + "".join(f"g{n // 2},q{n},t\n" for n in range(rows)))
  return str(path)


def test_a_path_names_a_split_of_a_slice(tmp_path: Path):
  path = write(tmp_path, 40)
  rows = {name: read_rows(f"{path}[:30][{name} {SUFFIX}]", Layout()) for name in SHARES}
  assert sorted(row.line for split in rows.values() for row in split) == list(range(2, 32))
  assert {name: len(split) for name, split in rows.items()} == {"train": 20, "validation": 4, "test": 6}
  assert len({digest(f"{path}[{name} {SUFFIX}]") for name in SHARES} | {digest(path)}) == 4


def test_what_cannot_be_split_is_refused(tmp_path: Path):
  path = write(tmp_path, 4)
  with pytest.raises(UserError, match=r"my\.csv: 4 rows in 2 groups cannot be dealt into train, validation, test"):
    read_rows(f"{path}[train {SUFFIX}]", Layout())
  with pytest.raises(UserError, match="no split 'dev'"):
    read_rows(f"{path}[dev {SUFFIX}]", Layout())


def test_a_split_may_be_split_again_and_the_others_stay_as_they_were(tmp_path: Path):
  path = write(tmp_path, 80)
  validation = f"{path}[validation {SUFFIX}]"
  whole = {row.id for row in read_rows(validation, Layout())}
  parts = [read_rows(part, Layout()) for part in splits.halves(validation, 0.5, 0)]
  groups = [{row.group for row in part} for part in parts]
  assert set.union(*({row.id for row in part} for part in parts)) == whole and not groups[0] & groups[1] and all(groups)
  assert len({digest(part) for part in (*splits.halves(validation, 0.5, 0), validation)}) == 3
  files = {"train": f"{path}[train {SUFFIX}]", "validation": splits.halves(validation, 0.5, 0)[1]}
  found = splits.record(files, {name: read_rows(file, Layout()) for name, file in files.items()}, digest(path))
  assert found["data"] == path and found["shares"] == SHARES


def test_a_folder_refuses_other_splits_than_its_own(tmp_path: Path):
  path = write(tmp_path, 40)
  files = {name: f"{path}[{name} {SUFFIX}]" for name in SHARES}
  found = splits.record(files, {name: read_rows(file, Layout()) for name, file in files.items()}, digest(path))
  assert found["sha256"] == digest(path) and not splits.check(tmp_path, found)
  (tmp_path / "splits.json").write_text(json.dumps(found))
  assert splits.check(tmp_path, found)
  other = {**found, "splits": {**found["splits"], "test": found["splits"]["test"][1:]}}
  with pytest.raises(UserError, match="the rows of test are not those that"):
    splits.check(tmp_path, other)
