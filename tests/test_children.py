"""A child process ends with its parent, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fiat_jax

PARENT = """
import pathlib, sys, time
from fiat_jax import children
child = children.start("sleeper", "")
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
time.sleep(60)
"""
CHILD = """
import pathlib, time
from fiat_jax import children
children.end_with_parent()
try:
  pathlib.Path("ready").touch()
  time.sleep(60)
finally:
  pathlib.Path("cleaned").touch()
"""


def test_a_child_ends_and_cleans_up_when_its_parent_is_killed(tmp_path: Path):
  (tmp_path / "sleeper.py").write_text(CHILD)
  path = os.pathsep.join([str(Path(fiat_jax.__file__).parents[1]), str(tmp_path)])
  command = [sys.executable, "-c", PARENT, "pid"]
  parent = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": path})
  try:
    _wait_for(tmp_path / "ready")
  finally:
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
  _wait_for(tmp_path / "cleaned")


def _wait_for(file: Path) -> None:
  deadline = time.monotonic() + 30
  while not file.exists():
    assert time.monotonic() < deadline, f"no {file.name}"
    time.sleep(0.05)
