"""A deployment behind the server: rows in, answers out, with a big model that lives, dies, hangs and costs money."""

from __future__ import annotations

import asyncio
import csv
import json
import signal
import statistics
from pathlib import Path

import httpx2 as httpx
import pytest
from bytes_model import write_bytes_model
from commands import records
from endpoint import Endpoint, served
from started import Started, started

from fiat_jax import cli

pytestmark = [pytest.mark.slow, pytest.mark.compiled_quickly]
WORDS = ["--slots", "4", "--queue", "64", "--source_length", "256", "--max_tokens", "16"]


def write_rows(folder: Path) -> Path:
  for split, count in (("train", 8), ("validation", 2), ("test", 6)):
    lines = [
      {"id": f"{split}{n}", "question": f"what is {n} + 1?", "target": "none", "reasoning": f"It is {n} and one more."}
      for n in range(count)
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
  return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
  return write_bytes_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
  return write_rows(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def run(model, rows, tmp_path_factory) -> Path:
  folder = tmp_path_factory.mktemp("runs") / "mine"
  files = [word for split in ("train", "validation", "test") for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  words = ["--input", "{question}", "--steps", "24", "--batch", "4", "--learning_rate", "0.05", "--slots", "4"]
  words += ["--target_length", "8", "--source_length", "256", "--metrics", "accuracy"]
  assert cli.main(["train", *files, *words, "--model", str(model), "--model_dir", str(folder)]) == 0
  return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory) -> Path:
  folder = tmp_path_factory.mktemp("exports") / "mine"
  assert cli.main(["export", "--model_dir", str(run), "--output", str(folder)]) == 0
  return folder


def row(number: int) -> dict[str, str]:
  return {"id": f"new{number}", "question": f"what is {number} + 1?"}


def ask(server: Started, record: dict, seconds: float = 60.0) -> httpx.Response:
  return httpx.post(f"{server.url}/v1/predict", json=record, timeout=seconds)


async def ask_all(server: Started, found: list[dict], seconds: float = 120.0) -> list[httpx.Response]:
  async with httpx.AsyncClient(timeout=seconds, limits=httpx.Limits(max_connections=64)) as client:
    return await asyncio.gather(*(client.post(f"{server.url}/v1/predict", json=record) for record in found))


def of_beta(url: str, *words: str, answer: str = r"(?P<answer>\S+)") -> list[str]:
  return ["--beta", "openai:big", "--beta_url", url, "--reasoning_length", "12", "--answer", answer, *words]


def test_rows_with_reasoning_are_answered_as_predict_answers_them(exported, model, run, rows, tmp_path, capsys):
  wanted = [found["prediction"] for found in records(run / "predictions" / "test.jsonl")]
  bare = [{k: v for k, v in found.items() if k != "target"} for found in records(rows / "test.jsonl")]
  with open(tmp_path / "rows.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, list(bare[0]))
    writer.writeheader()
    writer.writerows(bare)
  words = ["--deployment", str(exported), "--model", str(model), "--data", str(tmp_path / "rows.csv")]
  assert cli.main(["predict", *words, "--output", str(tmp_path / "answers.jsonl")]) == 0
  assert [found["answer"] for found in records(tmp_path / "answers.jsonl")] == wanted
  with started("--deployment", str(exported), "--model", str(model), *WORDS) as server:
    for record, answer in zip(bare, wanted, strict=True):
      found = ask(server, record).json()
      assert found["answer"] == answer and found["reasoning_from"] == "row" and found["cost"] == 0
      assert found["versions"]["deployment"] and found["usage"]["tau"]["prompt_tokens"] > 0
    refused = ask(server, {"id": "a", "title": "no question"})
    assert refused.status_code == 400 and "'question'" in refused.json()["error"]["message"]
    unasked = ask(server, row(1))
    assert unasked.status_code == 422 and "has no 'reasoning'" in unasked.json()["error"]["message"]
    assert ask(server, {**row(1), "reasoning": "long " * 100}).json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("policy", ["error", "tau_alone"])
def test_a_big_model_that_dies_or_hangs_keeps_the_policy_and_hangs_nobody(run, exported, model, tmp_path, policy):
  """The big model is our own engine in another process, with a run that has learned to end."""
  words = ["--beta_fails", policy, "--timeout", "8", "--store", str(tmp_path / "store")]
  of_run = ["--model_dir", str(run), *WORDS]
  with (
    started(*of_run) as big,
    started("--deployment", str(exported), "--model", str(model), *WORDS, *_named(big), *words) as server,
  ):
    found = ask(server, row(1)).json()
    assert found["reasoning_from"] == "beta" and found["reasoning"] and found["usage"]["beta"]["completion_tokens"]
    again = ask(server, row(1)).json()
    assert again["reasoning_from"] == "store" and again["answer"] == found["answer"]
    big.process.send_signal(signal.SIGSTOP)
    status, answer = _failed(ask(server, row(2), 30), policy)
    assert status == (504 if policy == "error" else 200) and "within 8 s" in answer
    big.process.send_signal(signal.SIGCONT)

    async def killed() -> list[httpx.Response]:
      big.process.send_signal(signal.SIGSTOP)  # so that it answers none of them before it dies
      asked = asyncio.create_task(ask_all(server, [row(n) for n in range(10, 42)]))
      await asyncio.sleep(0.3)
      big.process.kill()
      return await asked

    outcomes = [_failed(response, policy) for response in asyncio.run(killed()) if _is_failed(response)]
    assert len(outcomes) == 32 and {status for status, _ in outcomes} <= ({502, 504} if policy == "error" else {200})
    assert ask(server, row(1)).json()["answer"] == found["answer"], "what was bought is kept"
    status, _ = _failed(ask(server, row(99)), policy)
    assert status == (502 if policy == "error" else 200)


def _named(big: Started) -> list[str]:
  """It under the name of its run's folder."""
  return ["openai:mine" if word == "openai:big" else word for word in of_beta(f"{big.url}/v1")]


def _is_failed(response: httpx.Response) -> bool:
  return response.status_code != 200 or "beta_failed" in response.json()


def _failed(response: httpx.Response, policy: str) -> tuple[int, str]:
  body = response.json()
  if policy == "error":
    return response.status_code, body["error"]["message"]
  assert body["reasoning"] is None and "answer" in body
  return response.status_code, body["beta_failed"]


def test_the_day_s_limit_holds_under_32_clients(exported, model, tmp_path):
  endpoint = Endpoint()
  limit = 0.02
  with served(endpoint) as url:
    words = of_beta(url, "--price", "10,20", "--max_cost_a_day", str(limit), "--store", str(tmp_path / "store"))
    with started("--deployment", str(exported), "--model", str(model), *WORDS, *words) as server:
      found = asyncio.run(ask_all(server, [row(n) for n in range(32)]))
      later = asyncio.run(ask_all(server, [row(n) for n in range(100, 132)]))
  answered = [response.json() for response in (*found, *later) if response.status_code == 200]
  refused = [response for response in (*found, *later) if response.status_code != 200]
  assert answered and refused and {response.status_code for response in refused} == {429}
  assert "the day's limit of 0.02" in refused[0].json()["error"]["message"]
  assert 0 < endpoint.cost(10, 20) <= limit
  assert sum(answer["cost"] for answer in answered) == pytest.approx(endpoint.cost(10, 20))


def test_equal_rows_at_once_are_bought_once_and_slots_are_kept_full(exported, model, tmp_path):
  endpoint = Endpoint()
  with served(endpoint) as url:
    words = of_beta(url, "--store", str(tmp_path / "store"))
    with started("--deployment", str(exported), "--model", str(model), *WORDS, *words) as server:
      found = asyncio.run(ask_all(server, [row(n // 4) for n in range(128)]))
      calls, at_work = (server.metric(f"fiat_slots_while_waiting_{what}") for what in ("count", "sum"))
      apart = [ask(server, row(200 + n)).json()["latency"] for n in range(12)]
  assert {response.status_code for response in found} <= {200, 429}
  assert len(endpoint.answered) <= 32 + 12 and max(endpoint.answered.values()) == 1
  assert calls and at_work == calls * 4, "a slot stood idle while a row waited"
  added = statistics.median(one["total"] - one["beta"] - one["tau"] for one in apart)
  print(f"added to the two models: {1000 * added:.2f} ms")
  assert added < 0.005


def test_a_base_that_has_changed_and_broken_files_are_refused(exported, model, tmp_path, capsys):
  other = write_bytes_model(tmp_path / "other")
  config = json.loads((other / "config.json").read_text()) | {"rms_norm_eps": 2e-5}
  (other / "config.json").write_text(json.dumps(config))
  data = tmp_path / "rows.jsonl"
  data.write_text(json.dumps({"question": "a", "reasoning": "b"}))
  words = ["predict", "--data", str(data), "--output", str(tmp_path / "out.jsonl"), "--deployment"]
  for given, message in (
    ([str(exported), "--model", str(other)], "have another fingerprint: give --model the base"),
    ([str(exported)], "--model: give the base that it was trained on"),
    ([str(tmp_path)], "there is no deployment.json: give an export of `fiat export`"),
  ):
    assert cli.main([*words, *given]) == 2
    assert message in capsys.readouterr().err
  data.write_text(json.dumps({"title": "a", "reasoning": "b"}))
  assert cli.main([*words, str(exported), "--model", str(model)]) == 2
  assert "rows.jsonl:1: the row has no field 'question'" in capsys.readouterr().err


def test_a_big_model_beside_the_tuned_one_has_a_place_for_every_sample(exported, model, tmp_path, capsys):
  """It is the untuned model, whose answers seldom end: what is told of them is no want of a place, nor of room."""
  bare = [row(n) for n in range(6)]
  (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, bare)))
  words = ["--deployment", str(exported), "--model", str(model), "--beta", str(model), "--answer", r"(?P<answer>\S)"]
  words += ["--beta_fails", "tau_alone", "--samples", "5", "--temperature", "1.0", "--reasoning_length", "12"]
  words += ["--stops", "a,e,i,o,u,1,2,3", "--slots", "2", "--queue", "2", "--source_length", "256"]
  files = ["--data", str(tmp_path / "rows.jsonl"), "--output", str(tmp_path / "answers.jsonl")]
  assert cli.main(["predict", *words, *files, "--store", str(tmp_path / "store")]) == 0
  found = records(tmp_path / "answers.jsonl")
  with started(*words, "--store", str(tmp_path / "served")) as server:
    at_once = bare[:4]  # slots and queue: a fifth may be refused, where the tuned model is slow
    found += [response.json() for response in asyncio.run(ask_all(server, at_once))]
    long = ask(server, {**row(0), "question": "why? " * 200}).json()
  assert len(found) == len(bare) + len(at_once) and all("answer" in answer for answer in found), found
  told = [answer.get("beta_failed", "") + answer.get("samples_missing", "") for answer in found]
  assert any(told) and not any("under way or wait" in text or "too long" in text for text in told), told
  assert "longer than the" in json.dumps(long) or long["error"]["code"] == "context_length_exceeded"
