"""Safetensors written tensor by tensor are what the package reads; folders are refused where the disk is too small."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from fiat_jax.checkpoints import streamed
from fiat_jax.checkpoints.new_folder import new_folder
from fiat_jax.checkpoints.streamed import Tensor
from fiat_jax.errors import UserError


def test_the_package_reads_what_is_streamed(tmp_path):
  rng = np.random.default_rng(0)
  arrays = {"a.weight": rng.normal(size=(3, 5)).astype(np.float32), "ü": np.arange(7).astype(ml_dtypes.bfloat16)}
  arrays["one"] = np.ones((1, 1, 1), np.float32)
  made = [Tensor(name, array.shape, array.dtype, lambda array=array: array) for name, array in arrays.items()]
  streamed.write(tmp_path / "x.safetensors", made)
  found = load_file(tmp_path / "x.safetensors")
  assert found.keys() == arrays.keys()
  for name, array in arrays.items():
    np.testing.assert_array_equal(found[name], array)


def test_too_small_a_disk_is_found_before_anything_is_written(tmp_path):
  with (
    pytest.raises(UserError, match=r"GiB free, and this takes 1073741824\.00"),
    new_folder(tmp_path / "x" / "y", 1 << 60),
  ):
    pass
  assert not list(tmp_path.iterdir())


def test_what_fails_leaves_nothing_and_a_folder_that_cannot_be_is_refused(tmp_path, monkeypatch):
  with pytest.raises(OSError, match="full"), new_folder(tmp_path / "x") as partial:
    (partial / "weights").write_bytes(b"0")
    raise OSError("full")
  assert not list(tmp_path.iterdir())
  (tmp_path / "file").write_text("")
  with pytest.raises(UserError, match="cannot be made"), new_folder(tmp_path / "file" / "x"):
    pass
  (tmp_path / "here").mkdir()
  monkeypatch.chdir(tmp_path / "here")
  with new_folder(".") as partial:
    (partial / "weights").write_bytes(b"0")
  assert (tmp_path / "here" / "weights").exists()
