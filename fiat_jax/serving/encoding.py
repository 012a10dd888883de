"""From what a client asks to the engine's requests: prompts as ids, checked against the limits, a seed a sample."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence

from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.decoding.request import Request
from fiat_jax.decoding.sampling import Sampling
from fiat_jax.errors import UserError
from fiat_jax.serving.limits import Limits
from fiat_jax.serving.protocol import Ask, Prompt
from fiat_jax.serving.refusal import Refusal

LONG = 8192  # characters: encoding so many would keep the event loop from others


def size(ask: Ask) -> int:
  """Characters, or ids, of all prompts."""
  return sum(map(len, ask.prompts)) + sum(len(message["content"]) for message in ask.messages)


def requests_of(ask: Ask, tokenizer: Tokenizer, limits: Limits) -> list[Request]:
  """The engine's requests, a prompt's samples one after another.

  Raises:
    Refusal: a prompt is empty, not of the vocabulary or too long, too many tokens are asked for, or answers.
  """
  if ask.answers > limits.answers:
    raise Refusal(f"{ask.answers} answers are asked for: at most {limits.answers} at a time", param="n")
  seed = secrets.randbits(62) if ask.seed is None else ask.seed
  prompts = [_chat(ask, tokenizer)] if ask.chat else [_plain(prompt, tokenizer) for prompt in ask.prompts]
  found = []
  for ids in prompts:
    new = _new_tokens(ask, len(ids), limits)
    for _ in range(ask.n):
      sampling = Sampling(temperature=ask.temperature, top_p=ask.top_p, seed=sample_seed(seed, len(found)))
      alternatives = ask.alternatives or 0
      found.append(
        Request(tokens=ids, max_new_tokens=new, sampling=sampling, stops=ask.stops, alternatives=alternatives)
      )
  return found


def sample_seed(seed: int, number: int) -> int:
  """The engine's seed of one answer among those that a client asks for with one seed; not negative, 31 bits."""
  return int.from_bytes(hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=4).digest()) >> 1


def _chat(ask: Ask, tokenizer: Tokenizer) -> Sequence[int]:
  try:
    return tokenizer.encode_chat(ask.messages)
  except UserError as e:
    hint = "" if tokenizer.template_source else ": ask /v1/completions"
    raise Refusal(str(e).removeprefix(f"{tokenizer.path}: ") + hint, param="messages") from None


def _plain(prompt: Prompt, tokenizer: Tokenizer) -> Sequence[int]:
  """What looks like a control token is ordinary text; who means one gives its id."""
  ids = tokenizer.encode_plain(prompt) if isinstance(prompt, str) else prompt
  if not ids:
    raise Refusal("the prompt has no tokens", param="prompt", code="invalid_value")
  if not all(0 <= id < tokenizer.vocab_size for id in ids):
    raise Refusal(f"prompt: token ids go from 0 to {tokenizer.vocab_size - 1}", param="prompt", code="invalid_value")
  return ids


def _new_tokens(ask: Ask, prompt: int, limits: Limits) -> int:
  """How many tokens an answer may have; a chat that names none gets all that there is room for."""
  param = "messages" if ask.chat else "prompt"
  if prompt > limits.prompt:
    raise Refusal(
      f"the prompt has {prompt} tokens, and this server takes {limits.prompt} (--source_length)",
      param=param,
      code="context_length_exceeded",
    )
  room = min(limits.answer, limits.whole - prompt)
  if ask.max_tokens is None:
    return room
  if ask.max_tokens > limits.answer:
    raise Refusal(
      f"max_tokens is {ask.max_tokens}, and this server gives at most {limits.answer} (--max_tokens)",
      param="max_tokens",
      code="invalid_value",
    )
  if ask.max_tokens > room:
    raise Refusal(
      f"the prompt's {prompt} tokens and max_tokens {ask.max_tokens} are more than the {limits.whole} that the model "
      "has places for",
      param=param,
      code="context_length_exceeded",
    )
  return ask.max_tokens
