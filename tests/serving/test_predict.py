"""`POST /v1/predict` without models: what holds whoever answers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from starlette.requests import Request

from fiat_jax.configuration import configure
from fiat_jax.serving.job import ClientGone
from fiat_jax.serving.predict import Deployed
from fiat_jax.serving.tau import Said


def request(body: dict[str, str], leaves_after: float | None) -> Request:
  """One whose client leaves after so many seconds, or stays."""
  messages = [{"type": "http.request", "body": json.dumps(body).encode()}]

  async def receive() -> dict:
    if messages:
      return messages.pop()
    await asyncio.sleep(1000 if leaves_after is None else leaves_after)
    return {"type": "http.disconnect"}

  scope = {"type": "http", "method": "POST", "headers": [(b"content-type", b"application/json")], "path": "/"}
  return Request(scope, receive)


def deployed(seconds: float, ended: list[str]) -> Deployed:
  """A tuned model that takes so long."""

  async def generate(ids: Sequence[int], most: int) -> Said:
    try:
      await asyncio.sleep(seconds)
      ended.append("answered")
      return Said("four", (len(ids), 1))
    except asyncio.CancelledError:
      ended.append("given up")
      raise

  configured = configure([], [], {"INPUT": "{question}"})
  return Deployed(
    layout=configured.settings.layout,
    recipe=configured.recipe("fine_tuning"),
    unaided=None,
    prompts=lambda recipe, rows: [[1, 2, 3] for _ in rows],
    longest=8,
    most=4,
    generate=generate,
    choose=None,
    beta=None,
    answer_rule="",
    timeout=30.0,
    versions={},
  )


def test_a_client_that_stays_is_answered():
  ended: list[str] = []
  response = asyncio.run(deployed(0.0, ended).route(request({"question": "2 + 2?"}, None)))
  assert json.loads(bytes(response.body))["answer"] == "four" and ended == ["answered"]


def test_a_client_that_leaves_gives_its_slot_back():
  ended: list[str] = []
  with pytest.raises(ClientGone):
    asyncio.run(deployed(20.0, ended).route(request({"question": "2 + 2?"}, 0.01)))
  assert ended == ["given up"]
