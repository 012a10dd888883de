"""A spilled sequence is the list it was made of."""

from __future__ import annotations

import gc
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fiat_jax.data.spilled import Spilled

texts = st.lists(st.text(max_size=20), max_size=12)


def spilled(items: list[str]) -> Spilled[str]:
  return Spilled.write(items, lambda text: json.dumps(text).encode(), json.loads)


@given(items=texts, start=st.integers(-15, 15), stop=st.integers(-15, 15), step=st.sampled_from([-2, -1, 1, 3]))
def test_it_reads_as_the_list_does(items: list[str], start: int, stop: int, step: int):
  kept = spilled(items)
  assert len(kept) == len(items) and list(kept) == items and bool(kept) == bool(items)
  assert kept[start:stop:step] == items[start:stop:step]
  if -len(items) <= start < len(items):
    assert kept[start] == items[start]
  else:
    with pytest.raises(IndexError):
      kept[start]


@given(items=texts.filter(bool), data=st.data())
def test_what_is_taken_outlives_what_it_was_taken_from(items: list[str], data: st.DataObject):
  positions = data.draw(st.lists(st.integers(0, len(items) - 1), max_size=6))
  taken = spilled(items).take(np.array(positions, int))  # nothing else holds the whole by now
  assert list(taken) == [items[n] for n in positions]


def test_its_file_has_no_name_and_is_closed_with_it(tmp_path, monkeypatch):
  monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
  before = len(os.listdir("/proc/self/fd"))
  kept = spilled(["a", "b"])
  assert not list(tmp_path.iterdir()) and len(os.listdir("/proc/self/fd")) == before + 1
  del kept
  gc.collect()
  assert len(os.listdir("/proc/self/fd")) == before
