"""Child processes that may import TensorFlow: they see no accelerator, and end when their parent does."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

from fiat_jax import signals
from fiat_jax.progress import progress

PARENT = "FIAT_PARENT"  # the parent's process id, for the child to compare: the parent may be gone before it looks
POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0
PROGRESS = "\x01progress"  # begins a line of `tell`


def start(module: str, given: str) -> subprocess.Popen[str]:
  """Runs a module of this package with `given` on its stdin; its stderr is piped."""
  hidden = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"}
  environment = os.environ | hidden | {PARENT: str(os.getpid())}
  package_root = str(pathlib.Path(__file__).parents[1])
  environment["PYTHONPATH"] = os.pathsep.join(filter(None, [package_root, environment.get("PYTHONPATH", "")]))
  child = subprocess.Popen(
    [sys.executable, "-m", module],
    stdin=subprocess.PIPE,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
    env=environment,
  )
  assert child.stdin is not None
  child.stdin.write(given)
  child.stdin.close()
  child.stdin = None
  return child


def tell(label: str, done: int, total: int) -> None:
  """Says from a child how far it has come, for `follow` to show."""
  print(PROGRESS, done, total, label, file=sys.stderr, flush=True)


def follow(child: subprocess.Popen[str]) -> str:
  """Shows the progress that a child tells, until it ends; returns what else it wrote to stderr.

  Raises:
    Stopped: a signal came; the child is ended.
  """
  said: list[str] = []
  shown, bar, behind = "", None, 0
  assert child.stderr is not None
  with contextlib.ExitStack() as stack:
    for line in child.stderr:
      if not line.startswith(PROGRESS):
        said.append(line)
        continue
      if signals.received():
        child.terminate()
      done, total, label = line.removeprefix(PROGRESS).rstrip("\n").lstrip().split(" ", 2)
      if bar is None or label != shown:
        stack.close()  # one bar at a time
        bar, shown = stack.enter_context(progress(label, int(total), int(done))), label
      else:
        bar.advance(int(done) - behind)
      behind = int(done)
  child.wait()
  signals.check()  # Ctrl-C ends the child too
  return "".join(said)


def end_with_parent(*, cleans_up: bool = True) -> None:
  """Ends this process soon after the one that started it has ended, by SIGKILL too; what is half written is removed.

  One that writes nothing need not clean up: SIGTERM then ends it at once. A handler in Python would wait for the main
  thread, and that may wait for work without having seen the signal.
  """
  parent = os.environ.get(PARENT)
  if parent is None:
    return
  if cleans_up:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception
  threading.Thread(target=_watch, args=(int(parent),), daemon=True).start()


def spare_imports() -> None:
  """Before SeqIO is imported: Keras, which comes with it, would import these too, and nothing here does."""
  for name in ("matplotlib", "pandas"):
    sys.modules.setdefault(name, None)  # pyright: ignore  importing it fails, as where it is not installed


def _watch(parent: int) -> None:
  while os.getppid() == parent:
    time.sleep(POLL_SECONDS)
  os.kill(os.getpid(), signal.SIGTERM)
  time.sleep(GRACE_SECONDS)
  os._exit(143)
