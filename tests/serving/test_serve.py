"""The package `openai` talks to a started `fiat serve`; answers are the engine's own."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import openai
import pytest
from bytes_model import write_bytes_model
from commands import records
from started import Started, started

from fiat_jax import cli, runtime
from fiat_jax.configuration import configure
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Completion, Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.models import pretrained
from fiat_jax.models.lora import LoraConfig
from fiat_jax.serving.encoding import sample_seed

SLOTS, QUEUE, PROMPT, NEW = 4, 4, 96, 600
WORDS = ["--slots", str(SLOTS), "--queue", str(QUEUE), "--source_length", str(PROMPT), "--max_tokens", str(NEW)]
TURNS = [
  {"role": "system", "content": "Hi."},
  {"role": "user", "content": "Why <|im_end|>?"},
  {"role": "assistant", "content": "End."},
  {"role": "user", "content": "Is 1?"},
]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
  return write_bytes_model(tmp_path_factory.mktemp("bytes"))


@pytest.fixture(scope="module")
def server(checkpoint: Path):
  with started("--model", str(checkpoint), *WORDS) as server:
    yield server


@pytest.fixture(scope="module")
def client(server: Started) -> openai.OpenAI:
  return server.client()


@pytest.fixture(scope="module")
def name(checkpoint: Path) -> str:
  return checkpoint.name


@pytest.fixture(scope="module")
def tokenizer(checkpoint: Path) -> Tokenizer:
  return Tokenizer.load(checkpoint)


@pytest.fixture(scope="module")
def alone(checkpoint: Path, server: Started):
  """What the engine answers to a request that nobody else is beside."""
  runtime.start(configure([], [], {}).settings)  # the server has compiled the same programs
  described = pretrained.describe(checkpoint, dtype="float32", lora=LoraConfig())
  weights = described.family.unstack(pretrained.load(described))
  tokenizer = described.tokenizer
  engine = Engine(described.module, weights, stop_ids=tokenizer.stop_ids, slots=SLOTS, decode=tokenizer.decode)
  session = Session(engine, Lengths(PROMPT, PROMPT + NEW, NEW))

  def answer(tokens, new: int, seed: int | None = None, **more) -> Completion:
    sampling = Sampling() if seed is None else Sampling(temperature=1.0, seed=seed)
    session.add(Request(tokens=tokens, max_new_tokens=new, sampling=sampling, **more))
    while not (ended := session.advance()):
      pass
    return ended[0][1]

  return answer


def plainly(server: Started, path: str, body: bytes, **headers: str) -> tuple[int, dict]:
  """Status and JSON of a request as it is."""
  names = {"content-type": "application/json"} | {key.replace("_", "-"): value for key, value in headers.items()}
  request = urllib.request.Request(server.url + path, data=body, headers=names)
  try:
    with urllib.request.urlopen(request) as answer:
      return answer.status, json.load(answer)
  except urllib.error.HTTPError as e:
    return e.code, json.load(e)


def test_completions_are_the_engine_s(client, name, tokenizer, alone):
  texts = ["Count on: 1 2 3", "The colour of <|im_start|> is"]
  prompts = [tokenizer.encode_plain(text) for text in texts]
  assert not any(tokenizer.is_control(id) for id in prompts[1]), "a text is no control token"
  made = client.completions.create(model=name, prompt=texts, max_tokens=24, temperature=0)
  expected = [alone(ids, 24) for ids in prompts]
  assert [choice.text for choice in made.choices] == [tokenizer.decode(c.tokens) for c in expected]
  assert [choice.finish_reason for choice in made.choices] == ["length", "length"]
  assert made.usage.prompt_tokens == sum(map(len, prompts)) and made.usage.completion_tokens == 48
  assert made.usage.total_tokens == made.usage.prompt_tokens + 48
  by_ids = client.completions.create(model=name, prompt=prompts, max_tokens=24, temperature=0)
  assert [choice.text for choice in by_ids.choices] == [choice.text for choice in made.choices]
  echoed = client.completions.create(model=name, prompt=texts[0], max_tokens=24, temperature=0, echo=True)
  assert echoed.choices[0].text == texts[0] + made.choices[0].text
  assert client.completions.create(model=name, prompt="One", temperature=0).usage.completion_tokens == 16


def test_chats_go_through_the_checkpoint_s_template(client, name, tokenizer, alone):
  ids = tokenizer.encode_chat(TURNS)
  assert sum(tokenizer.is_control(id) for id in ids) == 9, "four turns, and the one that begins"
  made = client.chat.completions.create(model=name, messages=TURNS, max_completion_tokens=16, temperature=0)
  assert made.choices[0].message.content == tokenizer.decode(alone(ids, 16).tokens)
  assert made.choices[0].message.role == "assistant" and made.usage.prompt_tokens == len(ids)


def test_samples_are_seeded_one_by_one_and_the_same_again(client, name, tokenizer, alone):
  ask = {"model": name, "prompt": "One", "n": 3, "max_tokens": 12, "seed": 2**40}
  texts = [choice.text for choice in client.completions.create(**ask).choices]
  ids = tokenizer.encode_plain("One")
  assert texts == [tokenizer.decode(alone(ids, 12, sample_seed(2**40, n)).tokens) for n in range(3)]
  assert len(set(texts)) == 3
  assert [choice.text for choice in client.completions.create(**ask | {"seed": 1}).choices] != texts
  unseeded = [client.completions.create(**ask | {"seed": None}).choices[0].text for _ in range(2)]
  assert unseeded[0] != unseeded[1]


def test_log_probabilities_are_the_engine_s(client, name, tokenizer, alone):
  expected = alone(tokenizer.encode_plain("One"), 12, alternatives=3)
  made = client.completions.create(model=name, prompt="One", max_tokens=12, temperature=0, logprobs=3)
  found = made.choices[0].logprobs
  assert found.token_logprobs == pytest.approx(expected.logprobs, abs=1e-5)
  assert [max(likely.values()) for likely in found.top_logprobs] == pytest.approx(
    [likely[0][1] for likely in expected.alternatives], abs=1e-5
  )
  assert all(
    made.choices[0].text[at:].startswith(token)
    for at, token in zip(found.text_offset, found.tokens, strict=True)
    if not token.startswith("bytes:")
  )
  chat = {"model": name, "messages": TURNS, "max_tokens": 12, "temperature": 0, "logprobs": True, "top_logprobs": 2}
  whole = client.chat.completions.create(**chat).choices[0]
  content = whole.logprobs.content
  assert b"".join(bytes(token.bytes) for token in content).decode(errors="replace") == whole.message.content
  assert all(len(token.top_logprobs) == 2 and token.top_logprobs[0].logprob >= token.logprob for token in content)
  streamed = [chunk.choices[0] for chunk in client.chat.completions.create(**chat, stream=True)]
  tokens = [token for choice in streamed if choice.logprobs for token in choice.logprobs.content]
  assert [token.model_dump() for token in tokens] == [token.model_dump() for token in content]


@pytest.mark.parametrize("chat", [False, True], ids=["completions", "chat"])
def test_a_stream_adds_up_to_the_whole(client, name, chat):
  ask = {"model": name, "max_tokens": 40, "seed": 3, "n": 2}
  if chat:
    create, ask["messages"] = client.chat.completions.create, TURNS
  else:
    create, ask["prompt"] = client.completions.create, "One"
  whole = create(**ask)
  chunks = list(create(**ask, stream=True, stream_options={"include_usage": True}))
  assert chunks[-1].usage == whole.usage and not chunks[-1].choices
  assert all(chunk.usage is None for chunk in chunks[:-1]) and len({chunk.id for chunk in chunks}) == 1
  texts, ends = {0: "", 1: ""}, {}
  for choice in (choice for chunk in chunks for choice in chunk.choices):
    texts[choice.index] += (choice.delta.content or "") if chat else choice.text
    if choice.finish_reason:
      ends[choice.index] = choice.finish_reason
  assert list(texts.values()) == [c.message.content if chat else c.text for c in whole.choices]
  assert list(ends.values()) == [c.finish_reason for c in whole.choices]
  assert len(chunks) > 8, "it came at once"


def test_a_stop_text_ends_an_answer_streamed_or_not(client, name):
  ask = {"model": name, "prompt": "One", "max_tokens": 40, "temperature": 0}
  text = client.completions.create(**ask).choices[0].text
  stop = text[20:24]
  for stops in (stop, [stop, "never seen"]):
    (choice,) = client.completions.create(**ask, stop=stops).choices
    assert choice.text == text[: text.index(stop)] and choice.finish_reason == "stop"
    streamed = [chunk.choices[0] for chunk in client.completions.create(**ask, stop=stops, stream=True)]
    assert "".join(choice.text for choice in streamed) == choice.text and streamed[-1].finish_reason == "stop"


def test_errors_have_openai_s_shape(server, client, name):
  with pytest.raises(openai.NotFoundError, match="there is no model 'other' here"):
    client.completions.create(model="other", prompt="a")
  with pytest.raises(openai.BadRequestError, match="logit_bias is not supported") as refused:
    client.completions.create(model=name, prompt="a", logit_bias={"5": 1})
  assert refused.value.param == "logit_bias" and refused.value.code == "unsupported_parameter"
  with pytest.raises(openai.BadRequestError, match=f"this server takes {PROMPT}") as refused:
    client.completions.create(model=name, prompt=[5] * (PROMPT + 1))
  assert refused.value.code == "context_length_exceeded"
  with pytest.raises(openai.BadRequestError, match="token ids go from 0 to 257"):
    client.completions.create(model=name, prompt=[[5], [258]])
  with pytest.raises(openai.BadRequestError, match="no tokens"):
    client.completions.create(model=name, prompt="")
  with pytest.raises(openai.BadRequestError, match=f"at most {NEW}"):
    client.completions.create(model=name, prompt="a", max_tokens=NEW + 1)
  with pytest.raises(openai.BadRequestError, match=f"at most {SLOTS + QUEUE} at a time"):
    client.completions.create(model=name, prompt="a", n=SLOTS + QUEUE + 1)
  assert plainly(server, "/v1/nothing", b"{}")[0] == 404
  assert plainly(server, "/health", b"{}") == (
    405,
    {
      "error": {
        "message": "POST /health: method not allowed",
        "type": "invalid_request_error",
        "param": None,
        "code": None,
      }
    },
  )
  assert (
    plainly(
      server,
      "/v1/completions",
      b"{",
    )[1]["error"]["code"]
    == "invalid_json"
  )
  assert plainly(server, "/v1/completions", b"[" * 100_000)[0] == 400
  assert plainly(server, "/v1/completions", b"{}", content_type="text/plain")[0] == 415
  assert plainly(server, "/v1/completions", b" " * (5 << 20))[0] == 413
  assert plainly(server, "/v1/completions", b"{}", host="a-page.example")[0] == 403
  assert server.metric("fiat_slots_busy") == 0 and server.process.poll() is None


def test_models_and_health(server, client, name):
  assert [model.id for model in client.models.list()] == [name] and client.models.retrieve(name).id == name
  with urllib.request.urlopen(server.url + "/health") as answer:
    assert json.load(answer) == {"status": "ok"}


def long_ask(name: str, **more) -> dict:
  """A request that takes a while: greedily, this random model never ends its text."""
  return {"model": name, "prompt": "One", "max_tokens": NEW, "temperature": 0, "logit_bias": {}} | more


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slots(server, name, stream):
  given_up, tokens = server.metric("fiat_given_up_total"), server.metric("fiat_new_tokens_total")
  body = json.dumps(long_ask(name, stream=stream, n=SLOTS)).encode()
  head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
  with socket.create_connection(("127.0.0.1", int(server.url.rpartition(":")[2]))) as connection:
    connection.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    server.wait_for("fiat_slots_busy", SLOTS)
  server.wait_for("fiat_slots_busy", 0)
  assert server.metric("fiat_given_up_total") == given_up + 1
  assert server.metric("fiat_new_tokens_total") - tokens < SLOTS * NEW / 2


def test_a_full_queue_says_when_to_come_back(server, client, name):
  refused = server.metric("fiat_queue_full_total")
  streams = [client.completions.create(**long_ask(name, n=4, stream=True)) for _ in range((SLOTS + QUEUE) // 4)]
  server.wait_for("fiat_waiting", QUEUE)
  with pytest.raises(openai.RateLimitError) as full:
    client.completions.create(model=name, prompt="a")
  assert 1 <= int(full.value.response.headers["retry-after"]) <= 60 and full.value.code == "queue_full"
  assert server.metric("fiat_queue_full_total") == refused + 1
  for stream in streams:
    stream.close()
  server.wait_for("fiat_slots_busy", 0)
  assert client.completions.create(model=name, prompt="a").choices


def test_annotate_asks_it_like_any_endpoint(server, name, tokenizer, alone, tmp_path):
  rows = tmp_path / "rows.jsonl"
  lines = [{"id": f"r{n}", "input": f"What is {n} + 1?", "target": str(n + 1)} for n in range(6)]
  rows.write_text("\n".join(map(json.dumps, lines)))
  words = ["--beta", f"openai:{name}", "--beta_url", f"{server.url}/v1", "--store", str(tmp_path / "S"), "--answer", ""]
  words += ["--reasoning_instruction", "{x}", "--reasoning_length", "20", "--completeness", "0", "--concurrency", "3"]
  assert cli.main(["annotate", "--train", str(rows), *words]) == 0
  asked = [alone(tokenizer.encode_prompt(row["input"]), 20) for row in lines]
  expected = [tokenizer.decode(c.tokens).strip() if c.finish == "stop" else "" for c in asked]
  assert any(expected) and "" in expected
  assert [row["reasoning"].strip() for row in records(tmp_path / "S" / "rows" / "train.jsonl")] == expected


def test_a_signal_drains_and_a_token_is_asked_for(checkpoint, name):
  with started("--model", str(checkpoint), *WORDS, "--host", "0.0.0.0", token="s3cret") as server:
    url = server.url.replace("0.0.0.0", "127.0.0.1")
    server.url = url
    for key in ("wrong", "s3cre", ""):
      with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(api_key=key or "none", base_url=f"{url}/v1", max_retries=0).models.list()
    assert plainly(server, "/metrics", b"")[0] == 401
    with urllib.request.urlopen(url + "/health") as answer:
      assert answer.status == 200
    client, texts = server.client(), {}
    streamed = client.completions.create(**long_ask(name, stream=True))
    whole = threading.Thread(target=lambda: texts.update(whole=client.completions.create(**long_ask(name, n=7))))
    whole.start()
    server.wait_for("fiat_slots_busy", SLOTS)
    server.process.terminate()
    texts["streamed"] = "".join(chunk.choices[0].text for chunk in streamed)
    whole.join()
    assert texts["streamed"] == texts["whole"].choices[0].text
    assert texts["whole"].usage.completion_tokens == 7 * NEW
    assert server.process.wait(20) == 143
    with pytest.raises(openai.APIConnectionError):
      client.models.list()
  assert re.search(r"SIGTERM: \d answers under way get up to 30 s", server.errors)
  assert "stopped by SIGTERM" in server.errors and "Traceback" not in server.errors


@pytest.mark.slow
def test_what_is_not_done_by_the_deadline_is_refused(checkpoint, name):
  with started("--model", str(checkpoint), *WORDS, "--drain", "0") as server:
    client, errors = server.client(), []

    def ask() -> None:
      try:
        client.completions.create(**long_ask(name, n=8))
      except openai.APIError as e:
        errors.append(e)

    asking = threading.Thread(target=ask)
    asking.start()
    server.wait_for("fiat_slots_busy", SLOTS)
    began = time.monotonic()
    assert server.stop() == 143 and time.monotonic() - began < 5
    asking.join()
    assert [e.status_code for e in errors] == [503] and "the server is stopping" in str(errors[0])


def test_an_address_that_others_reach_needs_a_token(capsys, monkeypatch):
  monkeypatch.delenv("FIAT_SERVE_TOKEN", raising=False)
  assert cli.main(["serve", "--host", "0.0.0.0", "--port", "0"]) == 2
  assert "set the environment variable FIAT_SERVE_TOKEN" in capsys.readouterr().err
  with socket.create_server(("127.0.0.1", 0)) as taken:
    assert cli.main(["serve", "--port", str(taken.getsockname()[1])]) == 2
  assert "cannot be had (Address already in use)" in capsys.readouterr().err


@pytest.mark.slow
def test_over_a_mesh_it_answers_as_over_one_device(checkpoint, name, monkeypatch):
  found = []
  for devices, mesh in ((1, ""), (4, "data=2,fsdp=2")):
    monkeypatch.setenv("XLA_FLAGS", f"--xla_force_host_platform_device_count={devices}")
    with started("--model", str(checkpoint), "--mesh", mesh, *WORDS[:6], "--max_tokens", "24") as server:
      asked = [{"prompt": [9, 60, 7 * n], "temperature": n % 2, "seed": n, "max_tokens": 24} for n in range(6)]
      found.append([server.client().completions.create(model=name, **each).choices[0].text for each in asked])
  assert found[0] == found[1] and len(set(found[0])) == 6
