"""Whether a program that a model wrote runs to its end, in a process of its own (`confined.py`) that can do no harm."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import secrets
import signal
import subprocess
import sys
import tempfile

from fiat_jax.errors import UserError
from fiat_jax.evaluation import confined

SECONDS = 3  # of a processor: HumanEval's own limit
CLOCK = 20.0  # seconds for a program that waits
BYTES = 2**30


@functools.lru_cache(maxsize=4096)  # an evaluation scores an answer more than once
def passes(program: str) -> bool:
  """Whether the program comes to its end: no exception, no exit before it, none of its limits reached.

  Raises:
    UserError: this system has no way to confine it; nothing was run.
  """
  word = secrets.token_hex(16)  # written by who runs the program, once it has ended
  with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as given:
    json.dump({"program": program, "word": word, "seconds": SECONDS, "bytes": BYTES}, given)
    given.seek(0)
    child = subprocess.Popen(
      [sys.executable, "-I", "-S", "-B", str(pathlib.Path(confined.__file__))],
      stdin=given,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      cwd=folder,
      env={},
      start_new_session=True,
    )
    assert child.stdout is not None
    with child.stdout as answer:
      try:
        child.wait(CLOCK)
      except subprocess.TimeoutExpired:
        pass
      finally:
        if child.poll() is None:
          os.killpg(child.pid, signal.SIGKILL)
          child.wait()
      said = os.read(answer.fileno(), len(word) + 1) if child.returncode == 0 else b""
  if child.returncode == confined.REFUSED:
    raise UserError(
      "code that a model wrote cannot be confined on this system, and is not run: Linux with seccomp on x86-64 or "
      "aarch64 is needed"
    )
  return said == word.encode()
