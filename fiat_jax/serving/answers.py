"""The shapes of answers: `text_completion` and `chat.completion`, whole or in chunks, with logprobs and usage."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from typing import Any

from fiat_jax.decoding.request import Request
from fiat_jax.serving.growing import Part
from fiat_jax.serving.protocol import Ask
from fiat_jax.serving.spelling import Spelling

DONE = b"data: [DONE]\n\n"


class Answers:
  """What all bodies that answer one HTTP request have in common."""

  def __init__(self, ask: Ask, requests: Sequence[Request], spelling: Spelling):
    self._ask, self._spelling = ask, spelling
    self._prompt_tokens = sum(len(request.tokens) for request in requests[:: ask.n])
    self._echoes = [_echo(ask, request, index, spelling) for index, request in enumerate(requests)]
    self._id = f"{'chatcmpl' if ask.chat else 'cmpl'}-{secrets.token_hex(12)}"
    self._created = int(time.time())

  def whole(self, parts: Sequence[Part], new_tokens: int) -> bytes:
    """The body of all answers together, each of one part."""
    choices = []
    for index, part in enumerate(parts):
      choice: dict[str, Any] = {"index": index, "finish_reason": part.finish, "logprobs": self._logprobs(part, index)}
      text = self._echoes[index] + part.text
      if self._ask.chat:
        choice["message"] = {"role": "assistant", "content": text, "refusal": None}
      else:
        choice["text"] = text
      choices.append(choice)
    kind = "chat.completion" if self._ask.chat else "text_completion"
    return _json(self._body(kind, choices) | {"usage": self._usage(new_tokens)})

  def first(self, index: int) -> bytes:
    """The event that begins an answer: the role, the prompt where it is echoed; empty where there is neither."""
    if self._ask.chat:
      return self._event(index, {"role": "assistant", "content": ""}, None, None)
    return self._event(index, self._echoes[index], None, None) if self._echoes[index] else b""

  def chunk(self, index: int, part: Part) -> bytes:
    """The event of one part; empty where it shows nothing."""
    if not (part.text or part.tokens or part.finish):
      return b""
    said = ({"content": part.text} if part.text or part.tokens else {}) if self._ask.chat else part.text
    return self._event(index, said, self._logprobs(part, index) if part.tokens else None, part.finish)

  def last(self, new_tokens: int) -> bytes:
    """The event after all answers, where usage is asked for, and the mark of the end."""
    if not self._ask.usage:
      return DONE
    return _data(self._body(self._chunks, []) | {"usage": self._usage(new_tokens)}) + DONE

  @property
  def _chunks(self) -> str:
    return "chat.completion.chunk" if self._ask.chat else "text_completion"

  def _event(self, index: int, said: Any, logprobs: Any, finish: str | None) -> bytes:
    choice = {"index": index, "delta" if self._ask.chat else "text": said}
    choice |= {"logprobs": logprobs, "finish_reason": finish}
    usage = {"usage": None} if self._ask.usage else {}
    return _data(self._body(self._chunks, [choice]) | usage)

  def _body(self, kind: str, choices: Sequence[Any]) -> dict[str, Any]:
    return {"id": self._id, "object": kind, "created": self._created, "model": self._ask.model, "choices": choices}

  def _usage(self, new_tokens: int) -> dict[str, int]:
    return {
      "prompt_tokens": self._prompt_tokens,
      "completion_tokens": new_tokens,
      "total_tokens": self._prompt_tokens + new_tokens,
    }

  def _logprobs(self, part: Part, index: int) -> dict[str, Any] | None:
    if self._ask.alternatives is None:
      return None
    return self._of_chat(part) if self._ask.chat else self._of_completion(part, len(self._echoes[index]))

  def _of_chat(self, part: Part) -> dict[str, Any]:
    def entry(token: int, logprob: float) -> dict[str, Any]:
      return {"token": self._spelling.text(token), "logprob": logprob, "bytes": list(self._spelling.spelt(token))}

    content = []
    for number, (token, logprob) in enumerate(zip(part.tokens, part.logprobs, strict=True)):
      likely = part.alternatives[number] if part.alternatives else ()
      content.append(entry(token, logprob) | {"top_logprobs": [entry(id, value) for id, value in likely]})
    return {"content": content, "refusal": None}

  def _of_completion(self, part: Part, begin: int) -> dict[str, Any]:
    text = self._spelling.text
    likely = [{text(id): value for id, value in others} for others in part.alternatives]
    for number, others in enumerate(likely):  # the chosen one is always among them
      others.setdefault(text(part.tokens[number]), part.logprobs[number])
    return {
      "tokens": [text(token) for token in part.tokens],
      "token_logprobs": list(part.logprobs),
      "top_logprobs": likely or None,
      "text_offset": [begin + offset for offset in part.offsets],
    }


def _echo(ask: Ask, request: Request, index: int, spelling: Spelling) -> str:
  """What stands before an answer: the prompt, as it was given or spelt by its ids, or nothing."""
  if not ask.echo:
    return ""
  given = ask.prompts[index // ask.n]
  return given if isinstance(given, str) else spelling.tokenizer.decode(request.tokens)


def _json(body: Any) -> bytes:
  return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _data(body: Any) -> bytes:
  return b"data: " + _json(body) + b"\n\n"
