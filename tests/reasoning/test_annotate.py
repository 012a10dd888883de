"""`fiat annotate` against a server that misbehaves: nothing is lost, nothing answered is asked twice, caps hold."""

from __future__ import annotations

import collections
import email.utils
import json
import random
import signal
import sys
import time

import pytest
from annotating import LANGS, failed, interrupted, spent, words
from commands import records
from endpoint import Endpoint, picky, served

from fiat_jax import cli
from fiat_jax.reasoning import openai as client
from fiat_jax.reasoning.store import Store


def test_every_row_is_answered_once_and_other_verbs_read_it(rows, capsys):
  endpoint = Endpoint()
  with served(endpoint) as url:
    for _ in range(2):
      assert cli.main(words(rows, url)) == 0
  assert set(endpoint.answered.values()) == {1} and len(endpoint.answered) == 36
  assert spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))
  assert not any("SECRET" in json.dumps(body) for body in endpoint.bodies)
  assert cli.main(["validate", *words(rows, url)[1:], "--model", "none"]) == 0
  assert "36" in capsys.readouterr().out
  assert all(r["reasoning"].startswith("I think.") for r in records(rows.parent / "S" / "rows" / "train.jsonl"))


@pytest.mark.parametrize("temporary", ["429", "500", "503", "408", "close", "stall"])
def test_what_passes_is_tried_again(rows, temporary):
  endpoint = Endpoint(lambda e, prompt, attempt: temporary if attempt <= 2 and "is 1" in prompt else "")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--timeout", "0.3")) == 0
  assert set(endpoint.answered.values()) == {1} and len(endpoint.answered) == 36
  ledger = spent(rows)
  assert ledger.settled == pytest.approx(endpoint.cost(1000, 1000))
  assert (ledger.lost > 0) == (temporary in ("close", "stall"))


@pytest.mark.parametrize(
  ("fault", "reason"),
  [
    ("length", "cut off"),
    ("empty", "empty"),
    ("unparsed", "unparsed"),
    ("broken", "broken"),
    ("cut", "connection broke in the middle"),
    ("reset", "connection broke in the middle"),
    ("hang", "nothing more came for 0.5 s in the middle"),
  ],
)
def test_an_answer_that_cannot_be_used_is_a_failure_and_not_asked_for_again(rows, capsys, fault, reason):
  endpoint = Endpoint(lambda e, prompt, attempt: fault if "is 1" in prompt else "")
  with served(endpoint) as url:
    for _ in range(2):
      assert cli.main(words(rows, url, *(("--timeout", "0.5") if fault == "hang" else ()))) == 2
  assert len(failed(rows)) == 11 and all(reason in record["reason"] for record in failed(rows))
  assert set(endpoint.answered.values()) == {1}
  assert "25 of 36 rows have reasoning" in capsys.readouterr().err
  ledger = spent(rows)
  assert ledger.spent >= endpoint.cost(1000, 1000) - 1e-9


def test_a_wrong_key_stops_at_once_and_is_written_nowhere(rows, capsys, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
  endpoint = Endpoint(key="sk-other")
  with served(endpoint) as url:
    assert cli.main(words(rows, url)) == 2
    assert len(endpoint.bodies) == 1 and "check OPENAI_API_KEY" in capsys.readouterr().err
    endpoint.key = "sk-mine"
    assert cli.main(words(rows, url)) == 0
  _assert_written_nowhere(rows, capsys.readouterr().err)


def test_a_key_with_a_line_break_behind_it_is_taken_without(rows, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", " sk-mine\n")
  endpoint = Endpoint(key="sk-mine")
  with served(endpoint) as url:
    assert cli.main(words(rows, url)) == 0
  assert len(endpoint.answered) == 36


@pytest.mark.parametrize("key", ["sk-\nmine", "sk-mine\x7f", "sk-miné"])
def test_a_key_that_no_header_takes_is_refused_before_anything_is_asked(rows, capsys, monkeypatch, key):
  monkeypatch.setenv("OPENAI_API_KEY", key)
  endpoint = Endpoint()
  with served(endpoint) as url:
    assert cli.main(words(rows, url)) == 2
  said = capsys.readouterr().err
  assert "OPENAI_API_KEY holds what no key does" in said and "mine" not in said and "miné" not in said
  assert not endpoint.bodies and spent(rows).spent == 0


def test_a_key_that_an_endpoint_repeats_is_written_nowhere(rows, capsys, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
  long = f"400:{'no ' * 64}Bearer sk-mine: ..."  # cut where the key stands
  with served(Endpoint(lambda e, prompt, attempt: long if "is 1" in prompt else "400:sk-mine is of no use.")) as url:
    assert cli.main(words(rows, url, "--train", f"{rows}[:8]")) == 2
  reasons = [record["reason"] for record in failed(rows)]
  assert len(reasons) == 8 and any("[OPENAI_API_KEY] is of no use" in reason for reason in reasons)
  _assert_written_nowhere(rows, capsys.readouterr().err)


def test_what_fails_before_it_leaves_costs_nothing(rows, capsys, monkeypatch):
  """A header that cannot be sent, say: here the key's own check is left out."""
  monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
  monkeypatch.setattr(client, "key_of", lambda local: "sk-mine\n")
  endpoint = Endpoint()
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--train", f"{rows}[:2]")) == 2
  assert not endpoint.bodies and spent(rows).spent == 0 and "no connection" in failed(rows)[0]["reason"]
  _assert_written_nowhere(rows, capsys.readouterr().err)


def _assert_written_nowhere(rows, said: str) -> None:
  assert "sk-mi" not in said
  for file in (rows.parent / "S").rglob("*"):
    assert not file.is_file() or b"sk-mi" not in file.read_bytes(), file


def test_parameters_that_the_endpoint_refuses_are_learnt_once(rows):
  endpoint = Endpoint(picky)
  with served(endpoint) as url:
    assert cli.main(words(rows, url)) == 0
  assert len(endpoint.bodies) == 36 + 2


@pytest.mark.parametrize("thinking_in", ["completion", "total"])
def test_thinking_tokens_are_paid_for_wherever_they_are_reported(rows, thinking_in):
  endpoint = Endpoint(tokens=0.5)
  endpoint.thinking, endpoint.thinking_in = 1.0, thinking_in
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--max_cost", "20")) == 0
  assert endpoint.cost(1000, 1000) > 36 * 0.15 and spent(rows).spent == pytest.approx(endpoint.cost(1000, 1000))
  assert {kept.tokens[1] for kept in Store(rows.parent / "S", "reader").kept.values() if kept.tokens} == {150}


@pytest.mark.parametrize(("form", "ahead"), [("seconds", 0), ("date", 0), ("date", 3600)])
def test_the_wait_that_an_endpoint_asks_for_is_kept(rows, form, ahead):
  """A date is by the endpoint's own clock, which may be ahead of ours."""
  endpoint = Endpoint(lambda e, prompt, attempt: "429" if attempt == 1 else "")
  endpoint.clock = lambda: time.time() + ahead
  dated = lambda: email.utils.formatdate(int(endpoint.clock()) + 2, usegmt=True)  # noqa: E731
  endpoint.retry_after = dated if form == "date" else lambda: "1.1"
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--train", f"{rows}[:3]", "--concurrency", "3")) == 0
  times = collections.defaultdict[str, list[float]](list)
  for body, (at, _) in zip(endpoint.bodies, endpoint.arrivals, strict=True):
    times[body["messages"][0]["content"]].append(at)
  waits = [second - first for first, second in times.values()]
  assert len(waits) == 3 and min(waits) >= 1.0 and max(waits) < 10.0


def test_a_cap_is_never_passed_by_a_server_that_reports_twice_the_tokens(rows, capsys):
  endpoint = Endpoint(tokens=2.0)
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--max_cost", "1")) == 2
  assert 0.3 < endpoint.cost(1000, 1000) <= 1.0
  assert "--max_cost 1 is reached" in capsys.readouterr().err
  langs = [r["lang"] for r in records(rows.parent / "S" / "rows" / "train.jsonl") if r["reasoning"]]
  assert max(map(langs.count, LANGS)) - min(map(langs.count, LANGS)) <= 1


def test_a_row_is_done_when_all_its_samples_have_come(rows, capsys):
  endpoint = Endpoint()
  asked = ("--train", f"{rows}[:1]", "--samples", "5", "--temperature", "0.7", "--concurrency", "1")
  with served(endpoint) as url:
    assert cli.main(words(rows, url, *asked, "--max_cost", "0.7")) == 2
    assert 0 < len(endpoint.bodies) < 5
    told = capsys.readouterr().err
    assert "0 rows done, 0 failed, 1 left" in told and "to go on: " in told
    assert cli.main(words(rows, url, *asked, "--max_cost", "5")) == 0
  assert len(endpoint.bodies) == 5 and "1 rows done, 0 failed, 0 left" in capsys.readouterr().err


def test_a_cap_needs_a_price_and_a_dry_run_asks_nothing(rows, capsys):
  endpoint = Endpoint()
  with served(endpoint) as url:
    assert cli.main(words(rows, url, "--max_cost", "1", "--price=")) == 2
    assert "give --price" in capsys.readouterr().err
    assert cli.main(words(rows, url, "--dry_run")) == 0
  shown = capsys.readouterr().out
  assert not endpoint.bodies and "What is 0 + 1?" in shown and "SECRET" not in shown and "likely:" in shown


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_store_of_one_that_was_not(rows):
  endpoint = Endpoint()
  endpoint.delay = 0.02
  rng = random.Random(0)
  with served(endpoint) as url:
    command = [sys.executable, "-m", "fiat_jax", *words(rows, url, "--concurrency", "2")]
    sent = (signal.SIGKILL if n % 2 else signal.SIGTERM for n in range(20))
    within = sum(interrupted(command, endpoint, rng, 2, one) for one in sent)
    assert within >= 12, "they fell into its work"
    assert cli.main(words(rows, url)) == 0
  store = Store(rows.parent / "S", "reader")
  assert len(store.kept) == 36 and not store.failures
  ledger = spent(rows)
  twice = sum(endpoint.answered.values()) - 36
  dead = len(ledger._open)
  assert twice <= dead  # only what was under way at a kill was asked again, and it stands in the ledger
  assert ledger.settled <= endpoint.cost(1000, 1000) + 1e-9 <= ledger.spent + 2e-9
