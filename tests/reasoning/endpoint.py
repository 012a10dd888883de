"""A real server of OpenAI's protocol that misbehaves as it is told, and counts what it answered and charged."""

from __future__ import annotations

import collections
import contextlib
import email.utils
import hashlib
import http.server
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from batch_endpoint import Batches

Fault = Callable[["Endpoint", str, int], str]
Answer = Callable[[str, int], str]
CUTS = ("cut", "hang", "reset")  # what is done behind headers and half a body: the end, nothing for long, a RST


def right(prompt: str, attempt: int) -> str:
  """What it says unless it is told otherwise."""
  return f"I think. The answer is {int(hashlib.sha256(prompt.encode()).hexdigest()[:4], 16)}."


def picky(endpoint: Endpoint, prompt: str, attempt: int) -> str:
  """A fault: two parameters are refused, as by models that think."""
  body = endpoint.bodies[-1]
  if "max_tokens" in body:
    return "400:Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
  return "400:Unsupported value: 'temperature' does not support 0." if "temperature" in body else ""


class Endpoint:
  """`fault(endpoint, prompt, attempt)` names what is done to a request; `tokens` times the limit is what it reports.

  `context` is what the list of models tells. `arrivals` are the times of requests by its own clock, with the tokens
  that it counts for each. `stall` is how many seconds it says nothing, `retry_after` makes the header of that name,
  `clock` the dates. `thinking` times the limit are the tokens of thinking that it reports besides, among those of the
  `completion` or in the `total` alone. Of batches see `batch_endpoint.py`.
  """

  def __init__(
    self,
    fault: Fault = lambda endpoint, prompt, attempt: "",
    tokens: float = 0.5,
    key: str = "",
    answer: Answer = right,
    context: int | None = None,
  ):
    self.fault, self.tokens, self.key, self.delay, self.stall = fault, tokens, key, 0.0, 1.0
    self.answer, self.context, self.arrivals = answer, context, list[tuple[float, int]]()
    self.retry_after: Callable[[], str] = lambda: "0.01"
    self.clock: Callable[[], float] = time.time
    self.thinking, self.thinking_in = 0.0, "completion"
    self.batches = Batches()
    self.attempts: collections.Counter[str] = collections.Counter()
    self.answered: collections.Counter[str] = collections.Counter()
    self.usage: list[tuple[int, int]] = []
    self.bodies: list[dict[str, Any]] = []
    self.lock = threading.Lock()

  def cost(self, input_price: float, output_price: float) -> float:
    return sum(i * input_price + o * output_price for i, o in self.usage) / 1e6


class Handler(http.server.BaseHTTPRequestHandler):
  protocol_version = "HTTP/1.1"
  endpoint: Endpoint

  def log_message(self, format: str, *args: Any) -> None:
    pass

  def date_time_string(self, timestamp: float | None = None) -> str:
    return email.utils.formatdate(self.endpoint.clock(), usegmt=True)

  def do_GET(self) -> None:
    e = self.endpoint
    if not self._welcome():
      return None
    if self.path.endswith("/models"):
      told = {} if e.context is None else {"max_model_len": e.context}
      model = {"id": "big", "object": "model", "created": 0, "owned_by": "x", **told}
      return self._send(200, json.dumps({"object": "list", "data": [model]}))
    with e.lock:
      status, content = e.batches.get(e, self.path)
      cut = self.path.endswith("/content") and e.batches.cuts > 0
      e.batches.cuts -= cut
    return self._send(status, content, cut=cut)

  def do_POST(self) -> None:
    e = self.endpoint
    raw = self.rfile.read(int(self.headers["content-length"]))
    if self.path.endswith(("/files", "/batches")):
      if self._welcome():
        with e.lock:
          status, content = e.batches.post(e, self.path, raw)
        if status:
          return self._send(status, content)
        self.close_connection = True
      return None
    body = json.loads(raw)
    prompt = prompt_of(body)
    with e.lock:
      e.attempts[prompt] += 1
      e.bodies.append(body)
      e.arrivals.append((time.monotonic(), len(prompt) // 4 + 8 + limit_of(body)))
      fault = e.fault(e, prompt, e.attempts[prompt])
    time.sleep(e.delay)
    if not self._welcome():
      return None
    if fault.isdigit():
      return self._send(int(fault), json.dumps({"error": {"message": "not now"}}), {"retry-after": e.retry_after()})
    if fault.startswith("400:"):
      return self._send(400, json.dumps({"error": {"message": fault[4:]}}))
    if fault == "stall":
      time.sleep(e.stall)
      self.close_connection = True
      return None
    if fault == "close":
      self.close_connection = True
      return None
    with e.lock:
      whole = json.dumps(answer(e, body, fault))
    if fault == "broken":
      return self._send(200, whole[: len(whole) // 2])
    if fault == "drip":
      return self._drip(whole)
    self._send(200, whole, cut=fault in CUTS)
    if fault == "hang":
      time.sleep(e.stall)
    if fault == "reset":
      self._reset()

  def _drip(self, text: str) -> None:
    """White space before the answer, as gateways send it to keep a connection alive."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
      self.send_response(200)
      self.send_header("content-type", "application/json")
      self.send_header("content-length", str(20 + len(text.encode())))
      self.end_headers()
      for _ in range(20):
        self.wfile.write(b" ")
        time.sleep(self.endpoint.stall / 20)
      self.wfile.write(text.encode())

  def _welcome(self) -> bool:
    if self.endpoint.key and self.headers["authorization"] != f"Bearer {self.endpoint.key}":
      self._send(401, json.dumps({"error": {"message": "wrong key"}}))
      return False
    return True

  def _reset(self) -> None:
    """Ends the connection with a RST instead of a FIN, once what was sent has been read."""
    time.sleep(0.05)
    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    os.close(self.connection.detach())

  def _send(self, status: int, text: str, headers: dict[str, str] | None = None, cut: bool = False) -> None:
    content = text.encode()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
      self.send_response(status)
      for name, value in {
        "content-type": "application/json",
        "content-length": len(content),
        **(headers or {}),
      }.items():
        self.send_header(name, str(value))
      self.end_headers()
      self.wfile.write(content[: len(content) // 2] if cut else content)
      self.close_connection |= cut


def prompt_of(body: dict[str, Any]) -> str:
  return body["messages"][0]["content"] if "messages" in body else body["prompt"]


def limit_of(body: dict[str, Any]) -> int:
  return body.get("max_tokens") or body["max_completion_tokens"]


def answer(e: Endpoint, body: dict[str, Any], fault: str) -> dict[str, Any]:
  """What it answers, and charges; its lock is held."""
  prompt = prompt_of(body)
  said, thought = int(e.tokens * limit_of(body)), int(e.thinking * limit_of(body))
  usage = len(prompt.encode()) // 4, said + thought
  text = {"empty": "", "unparsed": "Hm."}.get(fault, e.answer(prompt, e.attempts[prompt]))
  choice = {"index": 0, "finish_reason": "length" if fault == "length" else "stop"}
  choice |= {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
  e.answered[prompt] += 1
  e.usage.append(usage)
  return {
    "id": "x", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice],
    "usage": {
      "prompt_tokens": usage[0], "completion_tokens": said + thought * (e.thinking_in == "completion"),
      "total_tokens": sum(usage), "completion_tokens_details": {"reasoning_tokens": thought},
    },
  }  # fmt: skip


@contextlib.contextmanager
def served(endpoint: Endpoint) -> Iterator[str]:
  """Serves it on a free port; gives the base URL."""
  handler = type("Bound", (Handler,), {"endpoint": endpoint})
  pool = type("Pool", (http.server.ThreadingHTTPServer,), {"request_queue_size": 128})
  server = pool(("127.0.0.1", 0), handler)
  server.daemon_threads = True
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    yield f"http://127.0.0.1:{server.server_port}/v1"
  finally:
    server.shutdown()
    server.server_close()
