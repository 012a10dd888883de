"""64 clients at once, one request in ten malformed: no crash, no answer mixed up, no slot idle while another waits."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

import openai
import pytest
from bytes_model import write_bytes_model
from started import started

from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.decoding.request import Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.models import pretrained
from fiat_jax.models.lora import LoraConfig
from fiat_jax.serving.encoding import sample_seed

CLIENTS, REQUESTS, SLOTS, PROMPT, NEW = 64, 1000, 8, 64, 48
MALFORMED = (
  {"temperature": "hot"}, {"n": 0}, {"best_of": 3}, {"max_tokens": NEW + 1}, {"stop": 5},
  {"prompt": [0] * (PROMPT + 1)}, {"model": "other"}, {"prompt": None}, {"logprobs": True}, {"stream_options": {}},
)  # fmt: skip


def ask(number: int) -> dict:
  """The request of a number: every tenth is malformed; prompts of all lengths, some twice; greedy and seeded."""
  rng = random.Random(number // 2 if number % 20 < 4 else number)
  body = {"prompt": [rng.randrange(256) for _ in range(rng.randrange(1, PROMPT))], "max_tokens": rng.randrange(1, NEW)}
  body |= {"temperature": rng.choice([0, 0.7, 1.0]), "seed": number, "logprobs": rng.choice([None, 0, 3])}
  return body | (MALFORMED[number // 10 % len(MALFORMED)] if number % 10 == 9 else {})


async def answers(url: str, model: str) -> list[tuple[str, list[float]] | int]:
  """Text and log-probabilities of each request, or the status that refused it, with so many clients at a time."""
  found: list = [None] * REQUESTS
  numbers = iter(range(REQUESTS))

  async def one(client: openai.AsyncOpenAI) -> None:
    for number in numbers:
      body = {"model": model, **ask(number)}
      try:
        if number % 3 or number % 10 == 9:
          (choice,) = (await client.completions.create(**body)).choices
          found[number] = choice.text, choice.logprobs.token_logprobs if choice.logprobs else []
        else:
          parts = [chunk.choices[0] async for chunk in await client.completions.create(**body, stream=True)]
          logprobs = [value for part in parts if part.logprobs for value in part.logprobs.token_logprobs]
          found[number] = "".join(part.text for part in parts), logprobs
      except openai.APIStatusError as e:
        found[number] = e.status_code

  async with openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", max_retries=0, timeout=300) as client:
    await asyncio.gather(*(one(client) for _ in range(CLIENTS)))
  return found


def alone(folder: Path) -> list[tuple[str, list[float]] | int]:
  """The same from the engine, one request at a time."""
  described = pretrained.describe(folder, dtype="float32", lora=LoraConfig())
  tokenizer: Tokenizer = described.tokenizer
  weights = described.family.unstack(pretrained.load(described))
  engine = Engine(described.module, weights, stop_ids=tokenizer.stop_ids, slots=SLOTS, decode=tokenizer.decode)
  session = Session(engine, Lengths(PROMPT, PROMPT + NEW, NEW))
  found = []
  for number in range(REQUESTS):
    body = ask(number)
    if number % 10 == 9:
      found.append(404 if "model" in body else 400)
      continue
    sampling = Sampling(temperature=body["temperature"], seed=sample_seed(number, 0))
    session.add(Request(tokens=body["prompt"], max_new_tokens=body["max_tokens"], sampling=sampling))
    while not (ended := session.advance()):
      pass
    ((_, completion),) = ended
    found.append((tokenizer.decode(completion.tokens), completion.logprobs if body["logprobs"] is not None else []))
  return found


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
  return write_bytes_model(tmp_path_factory.mktemp("bytes"))


@pytest.mark.slow
def test_64_clients_at_once_get_what_each_gets_alone(checkpoint):
  words = ["--slots", str(SLOTS), "--queue", str(CLIENTS), "--source_length", str(PROMPT), "--max_tokens", str(NEW)]
  with started("--model", str(checkpoint), *words) as server:
    found = asyncio.run(answers(server.url, checkpoint.name))
    calls, at_work = (server.metric(f"fiat_slots_while_waiting_{what}") for what in ("count", "sum"))
    assert server.metric("fiat_slots_busy") == 0 and server.metric("fiat_waiting") == 0
    assert server.stop() == 143 and "Traceback" not in server.errors
  for number, (got, expected) in enumerate(zip(found, alone(checkpoint), strict=True)):
    if isinstance(expected, int):
      assert got == expected, (number, json.dumps(ask(number))[:200])
    else:
      assert got[0] == expected[0], number
      assert got[1] == pytest.approx(expected[1], abs=1e-4)
  assert calls > 100 and at_work == calls * SLOTS, "a slot stood idle while a request waited"
