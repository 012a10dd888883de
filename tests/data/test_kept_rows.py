"""Checked rows of a large file are kept: the next command opens them, and a changed file is read anew."""

from __future__ import annotations

import json

import pytest

from fiat_jax.data import rows
from fiat_jax.data.rows import Layout, read_rows


@pytest.fixture
def large(monkeypatch, tmp_path):
  monkeypatch.setattr(rows, "LARGE", 1)
  monkeypatch.setenv("FIAT_CACHE", str(tmp_path / "cache"))
  file = tmp_path / "rows.jsonl"
  file.write_text("".join(json.dumps({"input": f"{n} + 1?", "target": str(n + 1)}) + "\n" for n in range(20)))
  return file


def test_rows_are_checked_once_and_come_back_the_same(large, monkeypatch):
  first = list(read_rows(str(large), Layout()))
  monkeypatch.setattr(rows, "_read", lambda *_: pytest.fail("it was read again"))
  again = read_rows(str(large), Layout())
  assert list(again) == first and len(again) == 20 and again[3].targets == ("4",)


def test_another_file_layout_or_split_is_read_anew(large):
  split = f"{large}[test of train=0.8,test=0.2 seed 0]"
  assert len(read_rows(str(large), Layout())) == 20 and len(read_rows(split, Layout())) == 4
  assert read_rows(str(large), Layout(input="{input} {target}"))[0].x == "0 + 1? 1"
  large.write_text('{"input": "new", "target": "1"}\n')
  assert [row.x for row in read_rows(str(large), Layout())] == ["new"]
