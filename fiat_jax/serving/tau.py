"""The tuned model as a deployment asks it: an engine here, behind its worker, or an endpoint elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import openai
from openai.types import Model

from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.decoding.request import Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.reasoning.api_key import brief
from fiat_jax.serving.refusal import Refusal
from fiat_jax.serving.worker import Worker


class Said(NamedTuple):
  """An answer's text, and the tokens of prompt and answer."""

  text: str
  tokens: tuple[int, int]
  finish: str = "stop"


Generate = Callable[[Sequence[int], int], Awaitable[Said]]


def of_worker(
  worker: Worker, tokenizer: Tokenizer, *, temperature: float = 0.0, seed: int = 0, stops: Sequence[str] = ()
) -> Generate:
  """`generate(ids, most)`: what the engine behind a worker says. Raises Refusal where its queue is full."""
  sampling = Sampling(temperature=temperature, seed=seed)

  async def generate(ids: Sequence[int], most: int) -> Said:
    request = Request(tokens=ids, max_new_tokens=most, sampling=sampling, stops=stops)
    with worker.submit([request], grows=False) as job:
      async for _, news in job.news():
        if news.end:
          text = tokenizer.decode(news.end.tokens) if news.end.text is None else news.end.text
          return Said(text.strip(), (len(ids), len(news.end.tokens)), news.end.finish)
    raise AssertionError("an answer ends")

  return generate


def of_endpoint(client: openai.AsyncOpenAI, timeout: float, name: str = "") -> Generate:
  """The same of an endpoint of OpenAI's protocol, which is asked with ids; without a name, the model of `_tuned`."""
  known = [name] if name else []

  async def generate(ids: Sequence[int], most: int) -> Said:
    try:
      async with asyncio.timeout(timeout):
        if not known:
          known.append(_tuned((await client.models.list()).data))
        made = await client.completions.create(model=known[0], prompt=list(ids), max_tokens=most, temperature=0)
      choice, usage = made.choices[0], made.usage
      tokens = (usage.prompt_tokens, usage.completion_tokens) if usage else (len(ids), 0)
      return Said(choice.text.strip(), tokens, choice.finish_reason)
    except (TimeoutError, openai.APITimeoutError):
      raise Refusal(f"no answer of the tuned model within {timeout:g} s", code="tau_failed", status=504) from None
    except (openai.APIError, ValueError, IndexError, AttributeError, TypeError) as e:
      raise Refusal(f"the tuned model's endpoint: {brief(e)}", code="tau_failed", status=502) from None

  return generate


def _tuned(listed: Sequence[Model]) -> str:
  """The one adapter among the models of an endpoint, for vLLM lists its base before it; else the one model.

  Raises:
    ValueError: it cannot be told.
  """
  adapters = [model.id for model in listed if getattr(model, "parent", None)]
  names = adapters or [model.id for model in listed]
  if len(names) != 1:
    raise ValueError(f"it serves {', '.join(names) or 'nothing'}: say with --tau_name which is the tuned model")
  return names[0]
