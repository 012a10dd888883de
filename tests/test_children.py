"""A child process ends with its parent, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fiat_jax
from fiat_jax import children, progress

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

WORKER = """
import multiprocessing, os, signal, threading, time
from fiat_jax.data import blocks
def signalled():
  time.sleep(0.5)
  signal.pthread_kill(threading.get_ident(), signal.SIGTERM)  # the main thread sees nothing of it
  time.sleep(60)
lock = multiprocessing.Lock()
lock.acquire()
blocks._begin(lambda: None, (), os.getppid())
threading.Thread(target=signalled, daemon=True).start()
lock.acquire()
"""


def test_a_worker_that_waits_for_work_ends_at_the_first_signal():
  path = str(Path(fiat_jax.__file__).parents[1])
  worker = subprocess.Popen([sys.executable, "-c", WORKER], env=os.environ | {"PYTHONPATH": path})
  try:
    assert worker.wait(20) == -signal.SIGTERM
  finally:
    worker.kill()


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


def test_a_childs_progress_is_shown_and_what_else_it_says_is_returned(capsys, monkeypatch):
  monkeypatch.setattr(progress, "LINE_SECONDS", 0)
  script = (
    "import sys\nfrom fiat_jax import children\nfor done in (3, 5, 9):\n  children.tell('tokenising a b', done, 9)\n"
    "print('error: bad', file=sys.stderr)\n"
  )
  child = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
  assert children.follow(child) == "error: bad\n" and child.returncode == 0
  assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
    "tokenising a b: 5/9",
    "tokenising a b: 9/9",
  ]
