"""`fiat annotate` under faults of endpoint, disk and processes: nothing is lost, no answered request is sent twice."""

from __future__ import annotations

import contextlib
import gc
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
from annotating import failed, interrupted, spent, words, write_rows
from commands import records
from endpoint import Endpoint, served

from fiat_jax import cli
from fiat_jax.reasoning import openai as client
from fiat_jax.reasoning.records import Records
from fiat_jax.reasoning.store import Store

pytestmark = pytest.mark.compiled_quickly

FIAT = [sys.executable, "-m", "fiat_jax"]
PASSING = ("429", "500", "502", "503", "408", "close", "stall")
LASTING = ("empty", "length", "unparsed", "broken", "cut", "reset", "hang", "400:Invalid prompt.")


def mishaps(rate: float, lasting: float, seed: int):
  """A fault for each attempt, drawn by prompt and attempt: some pass, some rows never get a usable answer."""

  def fault(e: Endpoint, prompt: str, attempt: int) -> str:
    row, this = random.Random(f"{seed} {prompt}"), random.Random(f"{seed} {prompt} {attempt}")
    if attempt <= 3 and this.random() < rate:
      return this.choice(PASSING)
    return row.choice(LASTING) if row.random() < lasting else ""

  return fault


def check(rows: pathlib.Path, endpoint: Endpoint, done: set[str]) -> None:
  """Every row is done or listed with its reason, and the ledger agrees with the server's own count."""
  found = records(rows.parent / "S" / "rows" / "train.jsonl")
  assert {row["id"] for row in found if row["reasoning"]} == done
  assert {record["id"] for record in failed(rows)} == {row["id"] for row in found} - done
  assert all(record["reason"] for record in failed(rows))
  ledger, cost = spent(rows), endpoint.cost(1000, 1000)
  assert ledger.settled <= cost + 1e-9 <= ledger.spent + 2e-9


@pytest.mark.parametrize("seed", range(3))
def test_every_row_ends_answered_or_listed_and_no_answer_is_asked_for_twice(rows, seed):
  fault = mishaps(0.4, 0.25, seed)
  endpoint = Endpoint(fault)
  endpoint.stall = 2.0
  with served(endpoint) as url:
    codes = [cli.main(words(rows, url, "--timeout", "1")) for _ in range(2)]
  useless = {row for row in range(36) if fault(endpoint, prompt(endpoint, row), 99)}
  done = {f"r{row}" for row in range(36) if row not in useless}
  assert codes == [2, 2] and len(useless) > 2  # fewer than --completeness
  check(rows, endpoint, done)
  assert set(endpoint.answered.values()) == {1}


def prompt(endpoint: Endpoint, row: int) -> str:
  return next(prompt for prompt in endpoint.attempts if f"What is {row} +" in prompt)


def test_bursts_of_429_and_500_are_waited_out(rows, monkeypatch):
  monkeypatch.setattr(client, "FIRST_WAIT", 0.03)  # the attempts last longer than the bursts, whatever is drawn
  monkeypatch.setattr(client, "LONGEST_WAIT", 0.4)
  started: list[float] = []

  def burst(e: Endpoint, prompt: str, attempt: int) -> str:
    started.append(time.monotonic())
    since = started[-1] - started[0]
    return "429" if since < 0.15 else "500" if 0.2 < since < 0.3 else ""

  endpoint = Endpoint(burst)
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--requests_per_minute", "0")) == 0
  check(rows, endpoint, {f"r{n}" for n in range(36)})
  assert set(endpoint.answered.values()) == {1} and max(endpoint.attempts.values()) > 1
  assert spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))


def test_what_waits_for_another_attempt_costs_nothing_when_the_command_gives_up(rows):
  endpoint = Endpoint(lambda e, prompt, attempt: "429" if "is 1" in prompt else "400:No.")
  endpoint.retry_after = lambda: "60"
  began = time.monotonic()
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--concurrency", "16")) == 2
  assert len(endpoint.attempts) >= 20 and time.monotonic() - began < 10
  assert spent(rows).spent == 0


def test_what_waits_for_another_attempt_costs_nothing_when_the_command_is_stopped(rows):
  endpoint = Endpoint(lambda e, prompt, attempt: "500" if "is 1" in prompt else "")
  endpoint.retry_after = lambda: "60"
  with served(endpoint) as url:
    command = [*FIAT, *words(rows, url, "--concurrency", "16", "--quiet")]
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(endpoint.attempts) < 36:
      assert child.poll() is None
      time.sleep(0.01)
    time.sleep(0.2)
    child.send_signal(signal.SIGTERM)
    assert child.wait(10) == 143
  assert len(endpoint.usage) == 25 and spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))


def test_rows_that_are_refused_keep_no_other_from_being_asked(rows, monkeypatch):
  monkeypatch.setattr(client, "HOPELESS", 5)
  monkeypatch.setattr(client, "REFUSALS", 64)
  bad = {f"is {n} +" for n in range(20)}
  long = "400:This model's maximum context length is 8192."
  endpoint = Endpoint(lambda e, prompt, attempt: long if any(one in prompt for one in bad) else "")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--concurrency", "16")) == 2, "fewer than --completeness"
  check(rows, endpoint, {f"r{n}" for n in range(20, 36)})
  assert len(failed(rows)) == 20


def test_an_endpoint_that_is_given_up_leaves_every_row_with_a_reason(rows, monkeypatch):
  monkeypatch.setattr(client, "HOPELESS", 5)
  endpoint = Endpoint(lambda e, prompt, attempt: "500")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--concurrency", "2")) == 2
  check(rows, endpoint, set())
  unasked = [record for record in failed(rows) if record["reason"].startswith("left unanswered: ")]
  assert len(unasked) == 36 - 5 and "came to nothing" in unasked[0]["reason"]


@pytest.mark.parametrize(("fault", "told"), [("empty", "empty"), ("length", "--reasoning_length")])
def test_an_endpoint_none_of_whose_answers_can_be_used_is_not_paid_to_the_end(rows, monkeypatch, capsys, fault, told):
  monkeypatch.setattr(client, "UNUSABLE", 8)
  endpoint = Endpoint(lambda e, prompt, attempt: fault)
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--concurrency", "2")) == 2
  assert 8 <= len(endpoint.usage) <= 10
  (line,) = [line for line in capsys.readouterr().err.splitlines() if "can be used" in line]
  assert "answers can be used, and all are paid for; the last: " in line and told in line
  assert len(failed(rows)) == 36


def test_one_answer_that_can_be_used_lets_all_rows_be_asked(rows, monkeypatch):
  monkeypatch.setattr(client, "UNUSABLE", 8)
  endpoint = Endpoint(lambda e, prompt, attempt: "" if "is 3 +" in prompt else "empty")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--concurrency", "1")) == 2, "fewer than --completeness"
  assert len(endpoint.usage) == 36


def test_what_was_refused_before_is_asked_last(rows, monkeypatch):
  """So that an endpoint that takes no row at first is asked about other ones by the next command."""
  monkeypatch.setattr(client, "REFUSALS", 5)
  bad = {f"is {n} +" for n in range(12)}
  endpoint = Endpoint(lambda e, prompt, attempt: "400:No." if any(one in prompt for one in bad) else "")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--concurrency", "1")) == 2 and not endpoint.answered
    while len(endpoint.answered) < 24:
      before = len(endpoint.attempts)
      assert cli.main(words(rows, url, "--concurrency", "1")) == 2
      assert len(endpoint.attempts) > before, "it goes on"
  check(rows, endpoint, {f"r{n}" for n in range(12, 36)})


def test_an_answer_that_drips_is_given_up_in_time(rows):
  endpoint = Endpoint(lambda e, prompt, attempt: "drip" if "is 1 +" in prompt else "")
  endpoint.stall = 4.0
  began = time.monotonic()
  with served(endpoint) as url:
    assert [cli.main(words(rows, url, "--timeout", "1")) for _ in range(2)] == [0, 0]
    assert time.monotonic() - began < 4
  (one,) = failed(rows)
  assert "still on its way" in one["reason"] and endpoint.attempts[prompt(endpoint, 1)] == 1, "it is paid for"


@pytest.mark.slow
def test_answers_under_way_are_waited_for_when_the_command_is_stopped(rows):
  endpoint = Endpoint()
  endpoint.delay = 12.0
  with served(endpoint) as url:
    child = subprocess.Popen([*FIAT, *words(rows, url, "--concurrency", "1", "--quiet")], stderr=subprocess.DEVNULL)
    while not endpoint.attempts:
      assert child.poll() is None
      time.sleep(0.01)
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 143
  assert len(Store(rows.parent / "S", "reader").kept) == 1 and len(endpoint.attempts) == 1


def test_two_processes_on_one_store_share_the_work(rows):
  endpoint = Endpoint()
  endpoint.delay = 0.05
  with served(endpoint) as url:
    command = [*FIAT, *words(rows, url, "--concurrency", "3")]
    children = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
  check(rows, endpoint, {f"r{n}" for n in range(36)})
  assert set(endpoint.answered.values()) == {1} and len(Store(rows.parent / "S", "reader").kept) == 36
  assert spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))


class Death(BaseException):
  """What ends a process at once, as far as its files show."""


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_dying_while_it_writes_it_ends_with_the_answers_of_one_that_did_not(rows, monkeypatch, seed):
  rng, write, endpoint, dead = random.Random(seed), Records._write, Endpoint(), False

  def dying(self: Records, path: pathlib.Path, content: bytes) -> None:
    nonlocal dead
    if not dead and rng.random() > 0.1:
      return write(self, path, content)
    if not dead and rng.random() < 0.5:
      write(self, path, content)
    elif not dead:
      with open(path, "ab") as file:
        file.write(content[: rng.randrange(len(content))])
    dead = True
    raise Death

  deaths = 0
  with served(endpoint) as url, monkeypatch.context() as patch:
    patch.setattr(Records, "_write", dying)
    while True:
      with contextlib.suppress(Death):
        assert cli.main(words(rows, url, "--concurrency", "3", "--quiet")) == 0
        break
      deaths, dead = deaths + 1, False
      gc.collect()  # locks end with the process
  assert deaths >= 2
  check(rows, endpoint, {f"r{n}" for n in range(36)})
  twice = sum(count - 1 for count in endpoint.answered.values())
  assert twice <= len(spent(rows)._open)  # only what was under way, and it counts as spent


FILL = """
set -e
mount -t tmpfs -o size=56M none S
"$@" & child=$!
while [ "$(cat S/answers-*.jsonl 2>/dev/null | grep -c '"answer"')" -lt 9 ]; do sleep 0.02; done
dd if=/dev/zero of=S/filler bs=64k 2>/dev/null || true
code=0; wait $child || code=$?
rm S/filler
cp -a S kept
exit $code
"""


def test_what_is_under_way_when_the_disk_fills_up_is_kept(rows):
  folder = rows.parent
  probe = ["unshare", "-Urm", "sh", "-c", "mount -t tmpfs -o size=1M none /mnt"]
  if not shutil.which("unshare") or subprocess.run(probe, capture_output=True).returncode:
    pytest.skip("no file system can be made here")
  (folder / "S").mkdir()
  endpoint = Endpoint()
  endpoint.delay = 0.5
  with served(endpoint) as url:
    command = [*FIAT, *words(rows, url, "--concurrency", "6", "--quiet")]
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    full = subprocess.run(
      ["unshare", "-Urm", "sh", "-c", FILL, "fill", *command],
      cwd=folder,
      env=environment,
      capture_output=True,
      text=True,
    )
    assert full.returncode == 2 and full.stderr.startswith("error: "), full.stderr
    assert "disk is full" in full.stderr or "No space left" in full.stderr
    (folder / "S").rmdir()
    (folder / "kept").rename(folder / "S")
    answered = sum(endpoint.answered.values())
    assert 9 <= answered < 36 and len(Store(folder / "S", "reader").kept) == answered
    endpoint.delay = 0.0
    assert cli.main(words(rows, url)) == 0
  check(rows, endpoint, {f"r{n}" for n in range(36)})
  assert set(endpoint.answered.values()) == {1} and not (folder / "S" / "ballast").exists()
  assert spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))


def test_where_a_file_may_not_grow_the_next_one_is_written(rows):
  endpoint = Endpoint()
  limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # noqa: E731
  with served(endpoint) as url:
    subprocess.run([*FIAT, *words(rows, url, "--quiet")], preexec_fn=limit, check=True, stdout=subprocess.DEVNULL)
  assert set(endpoint.answered.values()) == {1} and len(list((rows.parent / "S").glob("answers-*.jsonl"))) > 1
  check(rows, endpoint, {f"r{n}" for n in range(36)})


@pytest.mark.slow
def test_killed_at_random_moments_under_all_faults_nothing_is_lost(tmp_path):
  rows = write_rows(tmp_path / "rows.jsonl", 90)
  fault = mishaps(0.3, 0.1, 7)
  endpoint = Endpoint(fault)
  endpoint.delay = 0.03
  rng = random.Random(0)
  with served(endpoint) as url:
    command = [*FIAT, *words(rows, url, "--concurrency", "4", "--quiet")]
    sent = (signal.SIGKILL if n % 2 else signal.SIGTERM for n in range(20))
    within = sum(interrupted(command, endpoint, rng, 6, one) for one in sent)
    assert within >= 12, "they fell into its work"
    endpoint.delay = 0.0
    code = cli.main(words(rows, url))
  useless = {row for row in range(90) if fault(endpoint, prompt(endpoint, row), 99)}
  assert code == (2 if len(useless) > 4 else 0)
  check(rows, endpoint, {f"r{row}" for row in range(90) if row not in useless})
  twice = sum(count - 1 for count in endpoint.answered.values())
  assert twice <= len(spent(rows)._open)  # only what was under way at a kill, and it counts as spent
