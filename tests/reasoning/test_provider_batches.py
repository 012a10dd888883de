"""`fiat annotate --batch_api`: nothing is submitted twice, what a batch brought is kept, the ledger agrees."""

from __future__ import annotations

import gc
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from annotating import failed, spent, words
from endpoint import Endpoint, picky, served

from fiat_jax import cli
from fiat_jax.reasoning import patience
from fiat_jax.reasoning.batches import Batches


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
  monkeypatch.setattr(patience, "FIRST_WAIT", 0.01)
  monkeypatch.setattr(patience, "LONGEST_WAIT", 0.05)


def command(rows: pathlib.Path, url: str, *more: str) -> int:
  return cli.main([*words(rows, url), "--batch_api", *more])


def test_all_rows_go_in_one_batch_and_the_ledger_agrees(rows):
  endpoint = Endpoint()
  with served(endpoint) as url:
    for _ in range(2):
      assert command(rows, url) == 0
  assert len(endpoint.batches.made) == 1 and set(endpoint.answered.values()) == {1} and len(endpoint.answered) == 36
  assert spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))
  assert not any(b"SECRET" in content for content in endpoint.batches.files.values())


def test_answers_that_are_cut_off_on_their_way_are_fetched_again(rows):
  endpoint = Endpoint()
  endpoint.batches.cuts = 2
  with served(endpoint) as url:
    assert command(rows, url) == 0
  assert len(endpoint.batches.made) == 1 and not failed(rows)


@pytest.mark.parametrize("word", ["queued", "IN_PROGRESS"])
def test_a_batch_is_waited_for_whatever_the_endpoint_calls_its_work(rows, word):
  endpoint = Endpoint()
  endpoint.batches.at_work, endpoint.batches.looks = word, 15
  with served(endpoint) as url:
    assert command(rows, url) == 0
  assert len(endpoint.batches.made) == 1 and not failed(rows)


def test_two_processes_share_a_batch_and_either_may_die(rows):
  endpoint = Endpoint()
  endpoint.batches.looks = 10**9
  with served(endpoint) as url:
    words_ = [sys.executable, "-m", "fiat_jax", *words(rows, url), "--batch_api", "--quiet"]
    children = [subprocess.Popen(words_, stdout=subprocess.DEVNULL) for _ in range(2)]
    wait_for(lambda: any(batch["looked"] for batch in endpoint.batches.made))
    time.sleep(2.0)  # the other one has come, and waits
    (submitter,) = [child for child in children if child.poll() is None and attends(rows, child.pid)]
    submitter.kill()
    endpoint.batches.looks = 0
    assert sorted(child.wait() for child in children) == [-signal.SIGKILL, 0]
  assert len(endpoint.batches.made) == 1 and set(endpoint.answered.values()) == {1}
  assert spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))


def attends(rows: pathlib.Path, process: int) -> bool:
  """Whether the process has the batch's lock open."""
  (lock,) = (rows.parent / "S" / "sessions").glob("batch-*")
  return any(os.path.realpath(file) == str(lock) for file in pathlib.Path(f"/proc/{process}/fd").iterdir())


def test_a_command_stopped_while_it_waits_goes_on_with_the_same_batch(rows):
  endpoint = Endpoint()
  endpoint.batches.looks = 10**9
  with served(endpoint) as url:
    words_ = [sys.executable, "-m", "fiat_jax", *words(rows, url), "--batch_api"]
    for number in (signal.SIGKILL, signal.SIGTERM):
      child = subprocess.Popen(words_, stderr=subprocess.PIPE, text=True, env={**os.environ})
      wait_for(lambda: any(batch["looked"] for batch in endpoint.batches.made))
      endpoint.batches.made[0]["looked"] = 0
      child.send_signal(number)
      said = child.communicate()[1]
    assert child.returncode == 143 and "36 left" in said and "to go on: fiat annotate" in said
    endpoint.batches.looks = 0
    assert command(rows, url) == 0
  assert len(endpoint.batches.made) == 1 and set(endpoint.answered.values()) == {1}
  assert spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))


@pytest.mark.parametrize("lost", ["close", "500"])
def test_a_batch_whose_making_was_not_confirmed_is_found_and_not_made_again(rows, lost):
  endpoint = Endpoint()
  endpoint.batches.lost = [lost]
  endpoint.batches.refused = 2
  with served(endpoint) as url:
    assert command(rows, url) == 0
  assert len(endpoint.batches.made) == 1 and len(endpoint.answered) == 36


def test_a_command_killed_before_it_kept_the_batchs_name_finds_it(rows, monkeypatch):
  endpoint = Endpoint()
  with served(endpoint) as url:
    with monkeypatch.context() as patch:
      patch.setattr(Batches, "submitted", lambda self, batch, id: (_ for _ in ()).throw(KeyboardInterrupt))
      with pytest.raises(KeyboardInterrupt):
        command(rows, url)
    gc.collect()  # as the process would have, the first command gives its locks up
    assert command(rows, url) == 0
  assert len(endpoint.batches.made) == 1 and set(endpoint.answered.values()) == {1}


def test_what_expires_is_a_failure_and_asked_again_by_the_next_command(rows, capsys):
  endpoint = Endpoint()
  endpoint.batches.ends = {0: "expired"}
  with served(endpoint) as url:
    assert command(rows, url) == 2
    assert len(failed(rows)) == 18 and all("batch_expired" in record["reason"] for record in failed(rows))
    assert "18 of 36 rows have reasoning" in capsys.readouterr().err
    assert spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))
    assert command(rows, url) == 0
  assert set(endpoint.answered.values()) == {1} and len(endpoint.answered) == 36 and not failed(rows)


def test_a_cancelled_batch_keeps_what_it_answered_and_ends_the_command(rows, capsys):
  endpoint = Endpoint()
  endpoint.batches.ends = {0: "cancelled"}
  with served(endpoint) as url:
    assert command(rows, url) == 2
    assert "batch_0 was cancelled" in capsys.readouterr().err and len(endpoint.batches.made) == 1
    assert command(rows, url) == 0
  assert set(endpoint.answered.values()) == {1} and len(endpoint.answered) == 36


@pytest.mark.parametrize(
  ("fault", "reason"),
  [("length", "cut off"), ("empty", "empty"), ("unparsed", "unparsed"), ("500", "status 500"), ("missing", "nothing"),
   ("torn", "nothing"), ("400:bad", "status 400: bad")],
)  # fmt: skip
def test_a_request_that_a_batch_has_no_use_for_is_listed_with_its_reason(rows, fault, reason):
  endpoint = Endpoint(lambda e, prompt, attempt: fault if "is 1" in prompt else "")
  with served(endpoint) as url:
    assert command(rows, url) == 2
  assert len(failed(rows)) == 11 and all(reason in record["reason"] for record in failed(rows))
  ledger = spent(rows)
  assert ledger.spent >= endpoint.cost(1000, 1000) - 1e-9 and set(endpoint.answered.values()) == {1}


def test_parameters_that_the_endpoint_refuses_are_left_out_of_the_next_batch(rows):
  endpoint = Endpoint(picky)
  with served(endpoint) as url:
    assert command(rows, url) == 0
  assert len(endpoint.batches.made) == 3 and set(endpoint.answered.values()) == {1}


def test_a_cap_is_never_passed_by_a_batch_that_reports_twice_the_tokens(rows, capsys):
  endpoint = Endpoint(tokens=2.0)
  with served(endpoint) as url:
    assert command(rows, url, "--max_cost", "1") == 2
  assert 0.3 < endpoint.cost(1000, 1000) <= 1.0
  assert "--max_cost 1 is reached" in capsys.readouterr().err


def test_more_than_the_endpoint_takes_goes_in_smaller_batches(rows):
  endpoint = Endpoint()
  endpoint.batches.most = 10
  with served(endpoint) as url:
    assert command(rows, url) == 0
  ended = [batch for batch in endpoint.batches.made if batch["status"] == "completed"]
  assert len(ended) == 4 and set(endpoint.answered.values()) == {1}


def test_a_batch_that_is_refused_whole_costs_nothing_and_says_why(rows, capsys):
  endpoint = Endpoint()
  endpoint.batches.ends = {0: "failed"}
  with served(endpoint) as url:
    assert command(rows, url) == 2
    assert "refuses the batch: too much" in capsys.readouterr().err and spent(rows).spent == 0
    assert command(rows, url) == 0


def test_without_a_batch_interface_or_with_a_wrong_key_nothing_is_sent_and_nothing_counts_as_spent(
  rows, capsys, monkeypatch
):
  endpoint = Endpoint(key="sk-right")
  monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
  with served(endpoint) as url:
    assert command(rows, url) == 2 and "check OPENAI_API_KEY" in capsys.readouterr().err
    endpoint.key, endpoint.batches.absent = "", True
    assert command(rows, url) == 2 and "has no batch interface (404)" in capsys.readouterr().err
  assert spent(rows).spent == 0 and not endpoint.batches.made
  assert cli.main(words(rows, "", "--beta", "smollm2_135m_instruct", "--batch_api")) == 2
  assert "is no endpoint" in capsys.readouterr().err


def test_requests_in_a_batch_are_not_asked_one_by_one_as_well(rows, capsys):
  endpoint = Endpoint()
  endpoint.batches.looks = 10**9
  with served(endpoint) as url:
    child = subprocess.Popen([sys.executable, "-m", "fiat_jax", *words(rows, url), "--batch_api", "--quiet"])
    wait_for(lambda: any(batch["looked"] for batch in endpoint.batches.made))
    child.kill()
    child.wait()
    assert cli.main(words(rows, url)) == 2
    assert "36 of these requests are in batches" in capsys.readouterr().err and not endpoint.answered


def wait_for(true) -> None:
  until = time.monotonic() + 60
  while not true():
    assert time.monotonic() < until
    time.sleep(0.02)
