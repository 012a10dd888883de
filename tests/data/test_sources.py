"""Data sets by name: one of TensorFlow Datasets on the disk, and what is said where one is not to be had."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fiat_jax.data.rows import Layout, read_rows
from fiat_jax.errors import UserError

MAKE = """
import sys
import tensorflow as tf
import tensorflow_datasets as tfds
rows = {"question": ["a", "b"], "target": [0, 1], "n": [1, 2]}
features = tfds.features.FeaturesDict(
  {"question": tfds.features.Text(), "target": tfds.features.ClassLabel(names=["no", "yes"]), "n": tf.int64}
)
splits = {"train": tf.data.Dataset.from_tensor_slices(rows)}
tfds.dataset_builders.store_as_tfds_dataset(
  name="small", version="1.0.0", features=features, split_datasets=splits, data_dir=sys.argv[1]
)
"""


@pytest.mark.slow
def test_a_tensorflow_data_set_is_read_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
  subprocess.run([sys.executable, "-c", MAKE, str(tmp_path)], check=True, capture_output=True)
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  rows = read_rows("tfds:small:train[:2]", Layout(input="{question} {n}"))
  assert {(row.x, row.targets) for row in rows} == {("a 1", ("no",)), ("b 2", ("yes",))}
  assert len(read_rows("tfds:small[:1]", Layout())) == 1
  with pytest.raises(UserError, match=r"^tfds:small:dev: cannot be fetched \(.*dev"):
    read_rows("tfds:small:dev", Layout())


def test_a_hub_data_set_needs_an_extra(monkeypatch: pytest.MonkeyPatch):
  monkeypatch.setitem(sys.modules, "datasets", None)
  with pytest.raises(UserError, match=r"^hf:owner/name: needs the package `datasets`: pip install"):
    read_rows("hf:owner/name[:3]", Layout())


def test_a_hub_data_set_may_be_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
  pytest.importorskip("datasets")
  monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
  (tmp_path / "set").mkdir()
  (tmp_path / "set" / "train.csv").write_text("input,target\nq,t\n")
  assert read_rows(f"hf:{tmp_path / 'set'}", Layout())[0].x == "q"
