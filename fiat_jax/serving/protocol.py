"""What a client asks: bodies of `/v1/completions` and `/v1/chat/completions`, checked as far as they can be alone.

What would change the answer and is not done is refused; what changes nothing (`user`, `metadata`) is passed over.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from fiat_jax.decoding.request import ALTERNATIVES
from fiat_jax.serving.fields import Fields, check_text
from fiat_jax.serving.refusal import Refusal

MOST_ANSWERS, MOST_STOPS, LONGEST_STOP, HOTTEST = 128, 16, 256, 2.0
COMPLETION_TOKENS = 16  # where the client names no number: OpenAI's default
ROLES = ("system", "user", "assistant")

IGNORED = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")
IGNORED += ("prompt_cache_retention", "parallel_tool_calls")
NEUTRAL = {"presence_penalty": (0, 0.0), "frequency_penalty": (0, 0.0), "logit_bias": ({},)}
NEUTRAL_IN_COMPLETIONS = {"suffix": ("",), "best_of": (1,)}
NEUTRAL_IN_CHATS = {
  "response_format": ({"type": "text"},), "modalities": (["text"],), "tools": ([],), "functions": ([],),
  "tool_choice": ("none", "auto"), "function_call": ("none", "auto"), "audio": (), "prediction": (),
  "reasoning_effort": ("none",), "verbosity": ("medium",), "web_search_options": (),
}  # fmt: skip

Message = Mapping[str, str]
Prompt = str | tuple[int, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ask:
  """What one HTTP request wants.

  Attributes:
    model: as the client calls it.
    prompts: texts or token ids to continue.
    messages: a chat, in place of prompts.
    n: answers a prompt.
    max_tokens: None, where the client names no number.
    seed: None: another each time.
    alternatives: how many of the most likely tokens are reported; None: no log-probabilities at all.
    echo: the prompt stands before its answer.
    stream: the answers are sent as they grow; `usage`, with the count of tokens at the end.
  """

  model: str
  prompts: tuple[Prompt, ...] = ()
  messages: tuple[Message, ...] = ()
  n: int
  max_tokens: int | None
  temperature: float
  top_p: float
  seed: int | None
  stops: tuple[str, ...]
  alternatives: int | None
  echo: bool
  stream: bool
  usage: bool

  @property
  def chat(self) -> bool:
    return bool(self.messages)

  @property
  def answers(self) -> int:
    """How many are asked for in all."""
    return (1 if self.chat else len(self.prompts)) * self.n


def parse_completion(body: Mapping[str, Any]) -> Ask:
  """A body of `/v1/completions`. Raises Refusal."""
  fields = Fields(body)
  prompts = _prompts(fields.need("prompt"))
  alternatives = fields.integer("logprobs", None, 0, ALTERNATIVES)
  echo = fields.truth("echo")
  if echo and alternatives is not None:
    raise Refusal("echo with logprobs is not supported: prompts get no log-probabilities", param="echo")
  fields.neutral(NEUTRAL_IN_COMPLETIONS)
  return _ask(fields, prompts=prompts, alternatives=alternatives, echo=echo, default=COMPLETION_TOKENS)


def parse_chat(body: Mapping[str, Any]) -> Ask:
  """A body of `/v1/chat/completions`. Raises Refusal."""
  fields = Fields(body)
  messages = fields.need("messages")
  if not isinstance(messages, list) or not messages:
    raise Refusal("messages is no list of at least one message", param="messages", code="invalid_type")
  chat = tuple(_message(message, f"messages[{number}]") for number, message in enumerate(messages))
  wanted, likely = fields.truth("logprobs"), fields.integer("top_logprobs", None, 0, ALTERNATIVES)
  if likely is not None and not wanted:
    raise Refusal("top_logprobs needs logprobs: true", param="top_logprobs")
  fields.neutral(NEUTRAL_IN_CHATS)
  return _ask(fields, messages=chat, alternatives=(likely or 0) if wanted else None, echo=False, default=None)


def _ask(
  fields: Fields,
  *,
  prompts: tuple[Prompt, ...] = (),
  messages: tuple[Message, ...] = (),
  alternatives: int | None,
  echo: bool,
  default: int | None,
) -> Ask:
  """The fields that both have."""
  stream = fields.truth("stream")
  ask = Ask(
    model=fields.text("model"),
    prompts=prompts,
    messages=messages,
    n=fields.integer("n", 1, 1, MOST_ANSWERS) or 1,
    max_tokens=_max_tokens(fields) or default,
    temperature=fields.number("temperature", 1.0, 0.0, HOTTEST),
    top_p=_top_p(fields),
    seed=fields.integer("seed", None, -(2**63), 2**63 - 1),
    stops=_stops(fields.take("stop")),
    alternatives=alternatives,
    echo=echo,
    stream=stream,
    usage=_usage(fields.take("stream_options"), stream),
  )
  fields.neutral(NEUTRAL)
  fields.ignore(IGNORED)
  fields.finish()
  return ask


def _prompts(given: Any) -> tuple[Prompt, ...]:
  if isinstance(given, list) and given and all(type(id) is int for id in given):
    return (tuple(given),)
  prompts = given if isinstance(given, list) else [given]
  if not prompts:
    raise Refusal("prompt is an empty list", param="prompt", code="invalid_value")
  found: list[Prompt] = []
  for number, prompt in enumerate(prompts):
    if isinstance(prompt, list) and prompt and all(type(id) is int for id in prompt):
      found.append(tuple(prompt))
    elif isinstance(prompt, str):
      found.append(check_text(prompt, f"prompt[{number}]" if isinstance(given, list) else "prompt"))
    else:
      raise Refusal(
        "prompt: give a string, a list of strings, or token ids, one list or several",
        param="prompt",
        code="invalid_type",
      )
  return tuple(found)


def _message(message: Any, place: str) -> Message:
  if not isinstance(message, dict):
    raise Refusal(f"{place} is no object", param=place, code="invalid_type")
  fields = Fields(message, place + ".")
  role = fields.text("role")
  role = "system" if role == "developer" else role
  if role not in ROLES:
    raise Refusal(f"{place}.role is {role[:40]!r}: give one of {', '.join(ROLES)}", param=f"{place}.role")
  content = _content(fields.need("content"), f"{place}.content")
  # What clients send back of an answer; null asks for nothing.
  fields.neutral(dict.fromkeys(("name", "refusal", "audio", "function_call", "tool_calls", "annotations"), ([],)))
  fields.finish()
  return {"role": role, "content": content}


def _content(content: Any, place: str) -> str:
  """A string, or the texts of a list of parts one after another."""
  if not isinstance(content, list):
    return check_text(content, place)
  texts = []
  for number, part in enumerate(content):
    name = f"{place}[{number}]"
    if not isinstance(part, dict) or part.get("type") != "text" or part.keys() != {"type", "text"}:
      raise Refusal(f"{name}: only parts of type text are supported", param=name, code="invalid_type")
    texts.append(check_text(part["text"], f"{name}.text"))
  return "".join(texts)


def _max_tokens(fields: Fields) -> int | None:
  """`max_tokens`, or as it is called by now; how many there may be is the server's to say."""
  old, new = (fields.integer(name, None, 1, 2**31 - 1) for name in ("max_tokens", "max_completion_tokens"))
  if old is not None and new is not None and old != new:
    raise Refusal("max_tokens and max_completion_tokens differ: give one of them", param="max_tokens")
  return new if old is None else old


def _top_p(fields: Fields) -> float:
  top_p = fields.number("top_p", 1.0, 0.0, 1.0)
  if top_p == 0:
    raise Refusal("top_p is 0: give more than 0, or temperature 0 for the most likely token", param="top_p")
  return top_p


def _stops(given: Any) -> tuple[str, ...]:
  stops = [] if given is None else given if isinstance(given, list) else [given]
  if len(stops) > MOST_STOPS:
    raise Refusal(f"stop has {len(stops)} texts: give at most {MOST_STOPS}", param="stop", code="invalid_value")
  for stop in stops:
    if not check_text(stop, "stop") or len(stop) > LONGEST_STOP:
      raise Refusal(f"stop: give texts of 1 to {LONGEST_STOP} characters", param="stop", code="invalid_value")
  return tuple(stops)


def _usage(options: Any, stream: bool) -> bool:
  if options is None:
    return False
  if not stream or not isinstance(options, dict):
    raise Refusal("stream_options is an object that goes with stream: true", param="stream_options")
  fields = Fields(options, "stream_options.")
  usage = fields.truth("include_usage")
  fields.ignore(["include_obfuscation"])
  fields.finish()
  return usage
