"""The tuned model elsewhere: which of an endpoint's models is asked, and what a broken one is told to be."""

from __future__ import annotations

import asyncio
import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from fiat_jax.serving import tau
from fiat_jax.serving.refusal import Refusal

VLLM = [{"id": "base", "parent": None}, {"id": "tuned", "parent": "base"}]  # which lists an adapter after its base
CHOICE = {"index": 0, "text": " four ", "finish_reason": "stop"}


@contextlib.contextmanager
def endpoint(models: list[dict[str, Any]], choices: list[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
  """An endpoint's address, and the names that it is asked for."""
  asked: list[str] = []

  class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
      pass

    def do_GET(self) -> None:
      self._send({"object": "list", "data": [{"object": "model", "created": 0, "owned_by": "x"} | m for m in models]})

    def do_POST(self) -> None:
      asked.append(json.loads(self.rfile.read(int(self.headers["content-length"])))["model"])
      self._send({"id": "1", "object": "text_completion", "created": 0, "model": "x", "choices": choices})

    def _send(self, body: dict[str, Any]) -> None:
      content = json.dumps(body).encode()
      self.send_response(200)
      self.send_header("content-type", "application/json")
      self.send_header("content-length", str(len(content)))
      self.end_headers()
      self.wfile.write(content)

  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
  threading.Thread(target=server.serve_forever, daemon=True).start()
  try:
    yield f"http://127.0.0.1:{server.server_port}/v1", asked
  finally:
    server.shutdown()
    server.server_close()


def said(models: list[dict[str, Any]], choices: list[dict[str, Any]], name: str = "") -> tuple[tau.Said, list[str]]:
  async def run(url: str) -> tau.Said:
    async with openai.AsyncOpenAI(api_key="none", base_url=url, max_retries=0) as client:
      return await tau.of_endpoint(client, 10.0, name)([1, 2, 3], 4)

  with endpoint(models, choices) as (url, asked):
    return asyncio.run(run(url)), asked


@pytest.mark.parametrize(
  ("models", "name", "wanted"),
  [(VLLM, "", "tuned"), ([{"id": "merged"}], "", "merged"), ([*VLLM, {"id": "b", "parent": "base"}], "b", "b")],
)
def test_the_adapter_is_asked_and_not_the_base_that_is_listed_before_it(models, name, wanted):
  answer, asked = said(models, [CHOICE], name)
  assert asked == [wanted] and answer.text == "four" and answer.tokens == (3, 0)


@pytest.mark.parametrize(
  ("models", "choices", "message"),
  [
    ([{"id": "one"}, {"id": "two"}], [CHOICE], "it serves one, two: say with --tau_name which"),
    ([], [CHOICE], "it serves nothing"),
    (VLLM, [], "the tuned model's endpoint"),
    (VLLM, [{**CHOICE, "text": None}], "the tuned model's endpoint"),
  ],
)
def test_what_cannot_be_told_or_read_is_a_failure_of_the_tuned_model(models, choices, message):
  with pytest.raises(Refusal, match=message) as e:
    said(models, choices)
  assert e.value.status == 502 and e.value.code == "tau_failed"
