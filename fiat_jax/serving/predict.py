"""`POST /v1/predict`: a row in; answer, reasoning, versions, usage, cost and latency out (FIAT, Algorithm 2)."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from fiat_jax.data.row import Layout, Row, row_of
from fiat_jax.errors import UserError
from fiat_jax.reasoning.forms import texts
from fiat_jax.recipe import Recipe
from fiat_jax.serving import fields
from fiat_jax.serving.beta import Beta, Reasoning
from fiat_jax.serving.job import ClientGone, gone
from fiat_jax.serving.limits import read_body
from fiat_jax.serving.refusal import Refusal
from fiat_jax.serving.tau import Generate, Said
from fiat_jax.serving.turns import Unanswered

Prompts = Callable[[Recipe, Sequence[Row]], list[list[int]]]
Choose = Callable[[Row, Sequence[int]], str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Deployed:
  """What answers a row.

  Attributes:
    recipe: as it was tuned; `unaided` is its form without reasoning, None: such rows are refused.
    prompts: ids of rows as a recipe reads them.
    longest, most: tokens that a prompt and an answer may have.
    generate: the tuned model; `choose` scores labels instead, where there are some.
    beta: None where the recipe reads no reasoning.
    timeout: seconds that the tuned model has.
  """

  layout: Layout
  recipe: Recipe
  unaided: Recipe | None
  prompts: Prompts
  longest: int
  most: int
  generate: Generate
  choose: Choose | None
  beta: Beta | None
  answer_rule: str
  timeout: float
  versions: Mapping[str, str]

  async def route(self, request: Request) -> Response:
    began = time.monotonic()
    record = fields.parse_object(await read_body(request))
    answering = asyncio.create_task(self.answered(record, began))
    going = asyncio.create_task(gone(request.receive))
    try:
      await asyncio.wait((answering, going), return_when=asyncio.FIRST_COMPLETED)
      if answering.done():
        return JSONResponse(answering.result())
      raise ClientGone
    finally:  # what is bought of the big model is kept all the same; a slot of the tuned one is free again
      for task in (answering, going):
        task.cancel()
      await asyncio.gather(answering, going, return_exceptions=True)

  async def answered(self, record: dict[str, Any], began: float) -> dict[str, Any]:
    """The answer to one row.

    Raises:
      Refusal: 400, where it lacks a field or is too long; else where a model gives no answer.
    """
    return await self.of_row(self._row(record), began)

  async def of_row(self, row: Row, began: float) -> dict[str, Any]:
    """The same of a row that was read already."""
    latency: dict[str, float] = {}
    reasoning, failed = await self._reasoning(row, latency)
    recipe = self.recipe if reasoning or not self.recipe.needs_reasoning or not self.unaided else self.unaided
    if reasoning:
      row = dataclasses.replace(row, reasoning=reasoning.text)
    if reasoning and recipe.reasoning_form != "whole":
      (text,) = texts([row], recipe.reasoning_form, self.answer_rule, 0)
      row = dataclasses.replace(row, reasoning=text)
    said = await self._said(recipe, row, latency)
    usage = {"tau": _usage(said.tokens)}
    usage |= {"beta": _usage(reasoning.tokens)} if reasoning and reasoning.tokens else {}
    found: dict[str, Any] = {"id": row.id, "answer": said.text, "finish": said.finish}
    found |= {
      "reasoning": reasoning.text if reasoning else None,
      "reasoning_from": reasoning.source if reasoning else None,
    }
    found |= {"beta_failed": str(failed)} if failed else {}
    found |= {"samples_missing": reasoning.missing} if reasoning and reasoning.missing else {}
    asked = reasoning or failed
    found |= {"versions": dict(self.versions), "usage": usage, "cost": asked.cost if asked else 0.0}
    return found | {"latency": {**latency, "total": round(time.monotonic() - began, 6)}}

  def _row(self, record: dict[str, Any]) -> Row:
    try:
      return row_of(record, self.layout, pathlib.Path("row"), 1, labelled=False)
    except UserError as e:
      raise Refusal(str(e), code="bad_row") from None

  async def _reasoning(self, row: Row, latency: dict[str, float]) -> tuple[Reasoning | None, Unanswered | None]:
    """The big model's reasoning, and why there is none."""
    if self.beta is None:
      return None, None
    began = time.monotonic()
    try:
      found = await self.beta.of(row)
    except Unanswered as e:
      if self.unaided is None:
        headers = {"retry-after": str(math.ceil(e.wait))} if e.wait else {}
        raise Refusal(str(e), code="beta_failed", status=e.status, headers=headers) from None
      latency["beta"] = round(time.monotonic() - began, 6)
      return None, e
    latency["beta"] = round(found.seconds, 6)  # of the model alone
    return found, None

  async def _said(self, recipe: Recipe, row: Row, latency: dict[str, float]) -> Said:
    try:
      (ids,) = self.prompts(recipe, [row])
    except UserError as e:
      raise Refusal(str(e), code="bad_row") from None
    if len(ids) > self.longest:
      message = f"the prompt has {len(ids)} tokens, and this deployment reads {self.longest}: shorten the row"
      raise Refusal(message, code="context_length_exceeded")
    began = time.monotonic()
    try:
      async with asyncio.timeout(self.timeout):
        if self.choose:
          text = await asyncio.to_thread(self.choose, row, ids)
          return Said(text, (len(ids), 0))
        return await self.generate(ids, self.most)
    except TimeoutError:
      raise Refusal(f"no answer of the tuned model within {self.timeout:g} s", code="tau_failed", status=504) from None
    finally:
      latency["tau"] = round(time.monotonic() - began, 6)


def _usage(tokens: tuple[int, int] | None) -> dict[str, int]:
  read, written = tokens or (0, 0)
  return {"prompt_tokens": read, "completion_tokens": written}
