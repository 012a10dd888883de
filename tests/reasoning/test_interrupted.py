"""A checkpoint on this machine as β, killed again and again: the store ends as one that was left alone."""

from __future__ import annotations

import json
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from fiat_jax import cli
from fiat_jax.reasoning.store import Store

MOMENT = 0.05  # seconds at the most from a new answer to the signal
SVAMP = pathlib.Path(__file__).parents[3] / "shared" / "data" / "svamp.test.jsonl"


def command(store: pathlib.Path, data: str, beta: str, *more: str) -> list[str]:
  limits = ["--slots", "4", "--completeness", "0"]
  return ["annotate", "--test", data, "--beta", beta, "--store", str(store), *limits, *more]


def contents(store: pathlib.Path) -> dict[str, tuple]:
  """By request: the text, why it cannot be used, and the tokens."""
  read = Store(store, "reader")
  return {key: (read.text(key), kept.fault, kept.tokens) for key, kept in read.kept.items()}


def interrupted(words: list[str], store: pathlib.Path, times: int, total: int) -> int:
  """Runs the command and stops it so many times, each a moment after another answer has come.

  Args:
    total: answers of a command that is not stopped.

  Returns:
    How many fell into the work: a new answer was there, more were to come, and the signal is what ended the command.
  """
  rng, fell = random.Random(0), 0
  for n in range(times):
    before, sent = count(store), signal.SIGKILL if n % 3 else signal.SIGTERM
    child = subprocess.Popen(
      [sys.executable, "-m", "fiat_jax", *words, "--quiet"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while count(store) == before and child.poll() is None:
      time.sleep(0.01)
    time.sleep(rng.uniform(0.0, MOMENT))
    child.send_signal(sent)
    ended = child.wait()
    fell += before < count(store) < total and ended == (-sent if sent == signal.SIGKILL else 128 + sent)
  return fell


def count(store: pathlib.Path) -> int:
  return sum(file.read_bytes().count(b'"kind": "answer"') for file in store.glob("answers-*.jsonl"))


def files(store: pathlib.Path) -> list[bytes]:
  """The view, the rows and what failed, as other programs read them."""
  return [file.read_bytes() for file in sorted([*store.rglob("reasoning/*"), *store.rglob("rows/*")])]


def check_interrupted(folder: pathlib.Path, data: str, beta: str, *more: str, times: int) -> None:
  assert cli.main(command(folder / "whole", data, beta, *more)) == 0
  words = command(folder / "S", data, beta, *more)
  whole = contents(folder / "whole")
  fell = interrupted(words, folder / "S", times, len(whole))
  assert 2 * fell > times and count(folder / "S") < len(whole), f"{fell} of {times} fell into the work"
  assert cli.main(words) == 0
  assert contents(folder / "S") == whole and count(folder / "S") == len(whole) == count(folder / "whole")
  assert files(folder / "S") == files(folder / "whole")


TINY = ("--reasoning_length", "6", "--samples", "2", "--temperature", "0.8")


@pytest.fixture
def data(tmp_path: pathlib.Path) -> str:
  file = tmp_path / "rows.jsonl"
  texts = ["Say it. " * (n % 7) + f"{n}?" for n in range(28)]
  lines = [{"id": f"{n}", "lang": "en" if n % 3 else "sw", "input": text} for n, text in enumerate(texts)]
  file.write_text("\n".join(map(json.dumps, lines)))
  return str(file)


@pytest.mark.slow
def test_killed_with_a_tiny_model_it_ends_with_the_store_of_one_that_was_not(tmp_path, tiny_checkpoint, data):
  check_interrupted(tmp_path, data, str(tiny_checkpoint), *TINY, times=6)


@pytest.mark.slow
@pytest.mark.skipif(not SVAMP.exists(), reason="SVAMP's rows are not here")
def test_interrupted_twenty_times_on_svamp_it_ends_with_the_store_of_one_that_was_not(tmp_path):
  more = ("--reasoning_length", "32", "--stops", ".", "--slots", "2")  # the first sentence
  check_interrupted(tmp_path, f"{SVAMP}[:40]", "smollm2_135m_instruct", *more, times=20)
  found = contents(tmp_path / "S")
  assert sum(fault == "" for _, fault, _ in found.values()) > len(found) / 2, "most are whole"
