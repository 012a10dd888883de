"""What libraries raise when memory or the disk runs out is recognised, and told in one line."""

import errno
import os

import jax
import numpy as np
import pytest

from fiat_jax import shortage
from fiat_jax.errors import UserError

GPU = "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 3221225472 bytes."
TPU = "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.48G hbm. Exceeded by 5.02G."
CPU = "RESOURCE_EXHAUSTED: Out of memory allocating 1610612736 bytes."


@pytest.mark.parametrize(
  ("text", "told"), [(GPU, "needed 3.0 GiB at once, had "), (TPU, "needed 20.5 GiB, had 15.5 GiB"), (CPU, "needed 1.5")]
)
def test_memory_needed_is_read_out_of_what_jax_says(text: str, told: str):
  error = jax.errors.JaxRuntimeError(text)
  assert shortage.out_of_memory(error) and told in shortage.memory_told(error)
  assert "lower --slots" in str(shortage.told(error, []))


def test_what_jax_really_says_is_recognised():
  with pytest.raises(Exception, match="RESOURCE_EXHAUSTED") as fault:
    jax.block_until_ready(jax.numpy.zeros((1 << 30, 1 << 14)))
  assert shortage.out_of_memory(fault.value)
  assert "needed 65536.0 GiB at once" in shortage.memory_told(fault.value)


def test_other_faults_are_not_taken_for_a_shortage():
  for error in (
    ValueError("shapes differ"),
    OSError(errno.EACCES, "Permission denied"),
    jax.errors.JaxRuntimeError("x"),
  ):
    assert not shortage.out_of_memory(error) and not shortage.disk_full(error)
    assert shortage.told(error, ["."]) is None


def raised(make):
  try:
    make()
  except Exception as e:
    return e
  raise AssertionError("nothing was raised")


def wrapped():
  try:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/run/metrics.jsonl")
  except OSError as e:
    raise RuntimeError("saving failed") from e


def full_file():
  with open("/dev/full", "w") as file:
    file.write("x")


def over_quota():
  raise RuntimeError("TensorStore: Disk quota exceeded while writing")


FULL = {
  "the cause of another": (wrapped, "/run/metrics.jsonl: could not be written: No space left on device"),
  "a library, of a quota": (over_quota, "here: could not be written: Disk quota exceeded"),
  "the system": (full_file, "here: could not be written: No space left on device"),
  "NumPy": (lambda: np.ones(1 << 20).tofile("/dev/full"), "here: could not be written: No space left on device"),
}


@pytest.mark.parametrize("who", FULL)
def test_a_full_disk_is_told_with_the_place_and_what_is_free(who: str, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  make, message = FULL[who]
  told = shortage.told(raised(make), ["here"])
  assert isinstance(told, UserError) and message in str(told) and "GiB are free there" in str(told)
  assert "the same command goes on" in str(told) and "\n" not in str(told)
