"""From what a client asks to the engine's requests: prompts as ids, checked against the limits, a seed for each sample."""

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
  return sum(sum(len(m["content"]) for m in p if isinstance(m, dict)) or len(p) for p in ask.prompts)


def requests_of(ask: Ask, tokenizer: Tokenizer, limits: Limits) -> list[Request]:
  """The engine's requests, a prompt's samples one after another.

  Raises:
    Refusal: a prompt is empty, not of the vocabulary or too long, too many tokens are asked for, or answers.
  """
  if len(ask.prompts) * ask.n > limits.answers:
    raise Refusal(f"{len(ask.prompts)} prompts times n {ask.n}: at most {limits.answers} answers at a time", param="n")
  seed = secrets.randbits(62) if ask.seed is None else ask.seed
  found = []
  for number, prompt in enumerate(ask.prompts):
    ids = _ids(prompt, tokenizer)
    new = _new_tokens(ask, len(ids), limits)
    for sample in range(ask.n):
      found.append(
        Request(
          tokens=ids,
          max_new_tokens=new,
          sampling=Sampling(
            temperature=ask.temperature, top_p=ask.top_p, seed=sample_seed(seed, number * ask.n + sample)
          ),
          stops=ask.stops,
          alternatives=ask.alternatives or 0,
        )
      )
  return found


def sample_seed(seed: int, number: int) -> int:
  """The engine's seed of one answer among those that a client asks for with one seed; not negative, 31 bits."""
  return int.from_bytes(hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=4).digest()) >> 1


def _ids(prompt: Prompt, tokenizer: Tokenizer) -> Sequence[int]:
  try:
    if isinstance(prompt, str):
      ids = tokenizer.encode_plain(prompt)
    elif prompt and isinstance(prompt[0], int):
      ids = prompt
    else:
      ids = tokenizer.encode_chat(prompt)  # pyright: ignore[reportArgumentType]  messages
  except UserError as e:
    hint = "" if tokenizer.template_source else ": ask /v1/completions"
    raise Refusal(f"{str(e).removeprefix(f'{tokenizer.path}: ')}{hint}", param="messages") from None
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
      f"the prompt's {prompt} tokens and max_tokens {ask.max_tokens} are more than the {limits.whole} that the model has "
      "places for",
      param=param,
      code="context_length_exceeded",
    )
  return ask.max_tokens
