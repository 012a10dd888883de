"""A run folder in use by another process is refused, and free again however that process ended."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import fiat_jax
from fiat_jax.errors import UserError
from fiat_jax.run_lock import locked

HOLD = """
import pathlib, sys
from fiat_jax.run_lock import locked
with locked(pathlib.Path(sys.argv[1])):
  print("held", flush=True)
  input()
"""


@pytest.fixture
def other(tmp_path: Path):
  """Another process that holds the folder until its input ends."""
  root = str(Path(fiat_jax.__path__[0]).parent)
  process = subprocess.Popen(
    [sys.executable, "-c", HOLD, str(tmp_path)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
  )
  assert process.stdout is not None and process.stdout.readline() == "held\n"
  yield process
  process.kill()
  process.communicate()


def test_a_folder_in_use_is_refused_naming_the_process_until_that_is_killed(other, tmp_path: Path):
  with (
    pytest.raises(UserError, match=rf"{tmp_path.name}: is in use by the process {other.pid}: wait"),
    locked(tmp_path),
  ):
    pass
  other.send_signal(signal.SIGKILL)
  other.wait()
  with locked(tmp_path):
    pass
  assert not list(tmp_path.iterdir())


def test_a_folder_that_was_let_go_is_free(other, tmp_path: Path):
  other.communicate("\n")
  assert other.returncode == 0 and not list(tmp_path.iterdir())
  with locked(tmp_path), pytest.raises(UserError), locked(tmp_path):
    pass
  with locked(tmp_path), locked_elsewhere(tmp_path):
    pass


def locked_elsewhere(tmp_path: Path):
  (tmp_path / "other").mkdir()
  return locked(tmp_path / "other")
