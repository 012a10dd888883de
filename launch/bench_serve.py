"""What `fiat serve` costs over its engine alone, in turns: tokens/s of many requests at once, and the time of one.

    .venv/bin/python launch/bench_serve.py --model smollm2_135m_instruct

Both decode the same greedy chats with the same slots; the client, the package openai, runs on this machine too. Prints
one JSON line.
"""

import argparse
import asyncio
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import openai

from fiat_jax import runtime
from fiat_jax.configuration import configure
from fiat_jax.decoding.engine import Session
from fiat_jax.decoding.request import Request
from fiat_jax.verbs import serve

TEXT = "A train leaves at noon and goes {} miles an hour. Where is it after {} hours? Think step by step."
SINGLES = 10


class Turn(NamedTuple):
  """What one turn took: all requests at once by the clock and by the process's CPU, one-token requests one by one."""

  tokens_per_s: float
  tokens_per_cpu_s: float
  one_token_ms: float


def main() -> None:
  parser = argparse.ArgumentParser()
  parser.add_argument("--model", default="smollm2_135m_instruct")
  parser.add_argument("--slots", default="16")
  parser.add_argument("--requests", type=int, default=64)
  parser.add_argument("--new", type=int, default=64)
  parser.add_argument("--turns", type=int, default=5)
  given = parser.parse_args()
  words = {"MODEL": given.model, "SLOTS": given.slots, "QUEUE": str(given.requests), "SOURCE_LENGTH": "128"}
  words |= {"MAX_TOKENS": str(given.new)}
  texts = [TEXT.format(n + 10, n % 9 + 1) for n in range(given.requests)]
  turns: dict[str, list[Turn]] = {"engine": [], "served": []}
  with started(words) as url:
    session, requests = engine(words, texts, given.new)
    for _ in range(given.turns):
      turns["engine"].append(alone(session, requests))
      turns["served"].append(asyncio.run(served(url, texts, given.new)))
  result: dict[str, float] = {}
  for figure in Turn._fields:
    for name, found in turns.items():
      result[f"{name}_{figure}"] = round(statistics.median(getattr(turn, figure) for turn in found), 2)
    pairs = zip(turns["served"], turns["engine"], strict=True)
    result[f"{figure}_ratio"] = round(statistics.median(getattr(s, figure) / getattr(e, figure) for s, e in pairs), 3)
  print(json.dumps(result))


@contextlib.contextmanager
def started(words: dict[str, str]) -> Iterator[str]:
  """The address of a server that has begun to listen."""
  flags = [word for name, value in words.items() for word in (f"--{name.lower()}", value)]
  command = [sys.executable, "-m", "fiat_jax", "serve", "--port", "0", *flags]
  root = pathlib.Path(__file__).parents[1]
  with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
    assert process.stdout
    try:
      yield process.stdout.readline().split()[-1]
    finally:
      process.terminate()


def engine(words: dict[str, str], texts: Sequence[str], new: int) -> tuple[Session, list[Request]]:
  """The same engine here, compiled, and the same requests."""
  configured = configure([], [], words)
  runtime.start(configured.settings)
  made, model = serve.load(configured)
  session = Session(made, model.limits.lengths)
  serve.compile_all(session, made, model.limits)
  return session, [Request(tokens=model.tokenizer.encode_prompt(text), max_new_tokens=new) for text in texts]


def alone(session: Session, requests: Sequence[Request]) -> Turn:
  """The engine itself."""

  def run(batch: Sequence[Request]) -> int:
    for request in batch:
      session.add(request)
    tokens = 0
    while len(session):
      tokens += sum(len(completion.tokens) for _, completion in session.advance())
    return tokens

  begun, cpu = time.perf_counter(), time.process_time()
  tokens = run(requests)
  seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
  times = []
  for request in requests[:SINGLES]:
    begun = time.perf_counter()
    run([Request(tokens=request.tokens, max_new_tokens=1)])
    times.append(time.perf_counter() - begun)
  return Turn(tokens / seconds, tokens / cpu, 1000 * statistics.median(times))


async def served(url: str, texts: Sequence[str], new: int) -> Turn:
  """The same through the server."""
  async with openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", timeout=3600, max_retries=0) as client:
    name = (await client.models.list()).data[0].id

    async def one(text: str, tokens: int) -> int:
      messages = [{"role": "user", "content": text}]
      made = await client.chat.completions.create(model=name, messages=messages, max_tokens=tokens, temperature=0)  # pyright: ignore
      return made.usage.completion_tokens if made.usage else 0

    begun, cpu = time.perf_counter(), cpu_of(url)
    tokens = sum(await asyncio.gather(*(one(text, new) for text in texts)))
    seconds, cpu, times = time.perf_counter() - begun, cpu_of(url) - cpu, []
    for text in texts[:SINGLES]:
      begun = time.perf_counter()
      await one(text, 1)
      times.append(time.perf_counter() - begun)
  return Turn(tokens / seconds, tokens / cpu, 1000 * statistics.median(times))


def cpu_of(url: str) -> float:
  """CPU seconds of the server's process so far, as it says itself."""
  with urllib.request.urlopen(f"{url}/metrics") as answer:
    lines = answer.read().decode().splitlines()
  return float(next(line for line in lines if line.startswith("process_cpu_seconds_total ")).split()[1])


if __name__ == "__main__":
  main()
