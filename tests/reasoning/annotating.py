"""Rows to ask about, the command that asks, and what it left, for the tests of `fiat annotate`."""

from __future__ import annotations

import json
import pathlib
import random
import subprocess
import time
from collections.abc import Sequence

from commands import records
from endpoint import Endpoint

from fiat_jax.reasoning.ledger import Ledger

LANGS = ("en", "hi", "sw")


def write_rows(file: pathlib.Path, count: int = 36) -> pathlib.Path:
  lines = [
    {"id": f"r{n}", "lang": LANGS[n % 3], "input": f"What is {n} + 1?", "target": f"SECRET{n}"} for n in range(count)
  ]
  file.write_text("\n".join(map(json.dumps, lines)))
  return file


def words(rows: pathlib.Path, url: str, *more: str) -> list[str]:
  store = ["--store", str(rows.parent / "S"), "--price", "1000,1000", "--reasoning_length", "100"]
  train = () if "--train" in more else ("--train", str(rows))
  return ["annotate", *train, "--beta", "openai:big", "--beta_url", url, *store, *more]


def interrupted(command: Sequence[str], endpoint: Endpoint, generator: random.Random, most: int, sent: int) -> bool:
  """Stops a command with a signal once it has sent up to `most` requests more; whether it was still at work."""
  before, more = len(endpoint.bodies), generator.randint(1, most)
  child = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
  while child.poll() is None and len(endpoint.bodies) < before + more:
    time.sleep(0.002)
  time.sleep(generator.uniform(0, 2 * endpoint.delay))
  working = child.poll() is None
  child.send_signal(sent)
  child.wait()
  return working


def spent(rows: pathlib.Path) -> Ledger:
  ledger = Ledger(rows.parent / "S", "reader", 0.0)
  ledger.close()
  return ledger


def failed(rows: pathlib.Path) -> list[dict]:
  return records(rows.parent / "S" / "failed.jsonl")
