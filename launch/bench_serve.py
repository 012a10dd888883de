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
from collections.abc import Iterator, Sequence

import openai

from fiat_jax import runtime
from fiat_jax.configuration import configure
from fiat_jax.decoding.engine import Session
from fiat_jax.decoding.request import Request
from fiat_jax.verbs import serve

TEXT = "A train leaves at noon and goes {} miles an hour. Where is it after {} hours? Think step by step."
SINGLES = 30


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
  with started(words) as url:
    session, requests = engine(words, texts, given.new)
    rates: dict[str, list[float]] = {"engine": [], "served": []}
    times: dict[str, list[float]] = {"engine": [], "served": []}
    for _ in range(given.turns):
      for name, (rate, seconds) in {
        "engine": alone(session, requests), "served": asyncio.run(served(url, texts, given.new))
      }.items():  # fmt: skip
        rates[name].append(rate)
        times[name] += seconds
  shares = [of_server / of_engine for of_server, of_engine in zip(rates["served"], rates["engine"], strict=True)]
  result = {f"{name}_tokens_per_s": round(statistics.median(found), 1) for name, found in rates.items()}
  result |= {"share": round(statistics.median(shares), 3), "shares": [round(share, 3) for share in sorted(shares)]}
  result |= {f"{name}_one_token_ms": round(1000 * statistics.median(found), 2) for name, found in times.items()}
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
  runtime.start()
  made, model = serve.load(configure([], [], words))
  session = Session(made, model.limits.lengths)
  serve.compile_all(session, made, model.limits)
  return session, [Request(tokens=model.tokenizer.encode_prompt(text), max_new_tokens=new) for text in texts]


def alone(session: Session, requests: Sequence[Request]) -> tuple[float, list[float]]:
  """Tokens/s of all requests at once, and the seconds of each of some one-token requests."""

  def run(batch: Sequence[Request]) -> int:
    for request in batch:
      session.add(request)
    tokens = 0
    while len(session):
      tokens += sum(len(completion.tokens) for _, completion in session.advance())
    return tokens

  begun = time.perf_counter()
  rate = run(requests) / (time.perf_counter() - begun)
  times = []
  for request in requests[:SINGLES]:
    begun = time.perf_counter()
    run([Request(tokens=request.tokens, max_new_tokens=1)])
    times.append(time.perf_counter() - begun)
  return rate, times


async def served(url: str, texts: Sequence[str], new: int) -> tuple[float, list[float]]:
  """The same through the server."""
  async with openai.AsyncOpenAI(api_key="none", base_url=f"{url}/v1", timeout=3600, max_retries=0) as client:
    name = (await client.models.list()).data[0].id

    async def one(text: str, tokens: int) -> int:
      messages = [{"role": "user", "content": text}]
      made = await client.chat.completions.create(model=name, messages=messages, max_tokens=tokens, temperature=0)  # pyright: ignore
      return made.usage.completion_tokens if made.usage else 0

    begun = time.perf_counter()
    tokens = sum(await asyncio.gather(*(one(text, new) for text in texts)))
    rate, times = tokens / (time.perf_counter() - begun), []
    for text in texts[:SINGLES]:
      begun = time.perf_counter()
      await one(text, 1)
      times.append(time.perf_counter() - begun)
  return rate, times


if __name__ == "__main__":
  main()
