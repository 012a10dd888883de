"""`fiat serve` as a process of its own, for tests that talk to it as clients do."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai


class Started:
  """A server that listens at `url`, with what it has written to stderr."""

  def __init__(self, process: subprocess.Popen[str], url: str, errors: list[str], token: str):
    self.process, self.url, self._errors, self.token = process, url, errors, token

  @property
  def errors(self) -> str:
    return "".join(self._errors)

  def client(self, **given: Any) -> openai.OpenAI:
    return openai.OpenAI(api_key=self.token or "none", base_url=f"{self.url}/v1", **{"max_retries": 0, **given})

  def metric(self, name: str) -> float:
    """The sum of a figure over its labels."""
    request = urllib.request.Request(f"{self.url}/metrics", headers={"authorization": f"Bearer {self.token}"})
    with urllib.request.urlopen(request) as answer:
      text = answer.read().decode()
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, flags=re.MULTILINE))

  def wait_for(self, name: str, value: float, seconds: float = 10.0) -> float:
    """Waits until a figure has a value; returns how long that took."""
    began = time.monotonic()
    while (found := self.metric(name)) != value:
      assert time.monotonic() - began < seconds, f"{name} is {found}, not {value}"
      time.sleep(0.01)
    return time.monotonic() - began

  def stop(self, number: int = signal.SIGTERM) -> int:
    """Sends a signal; returns the exit code."""
    self.process.send_signal(number)
    return self.process.wait(60)


@contextlib.contextmanager
def started(*words: str, token: str = "") -> Iterator[Started]:
  """Runs `fiat serve --port 0 …` until the test is over; waits until it listens."""
  command = [sys.executable, "-m", "fiat_jax", "serve", "--port", "0", *words]
  environment = {**os.environ, "FIAT_SERVE_TOKEN": token}
  process = subprocess.Popen(
    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
  )
  assert process.stdout and process.stderr
  errors: list[str] = []
  reading = threading.Thread(target=lambda: errors.extend(iter(process.stderr.readline, "")), daemon=True)
  reading.start()
  try:
    line = process.stdout.readline()
    if not line.startswith("listening on "):
      process.wait(60)
      reading.join(5)
      raise AssertionError(f"it does not listen ({process.returncode}): {''.join(errors)}")
    yield Started(process, line.removeprefix("listening on ").strip(), errors, token)
  finally:
    if process.poll() is None:
      process.kill()
    process.wait()
    process.stdout.close()
    reading.join(5)
    process.stderr.close()
