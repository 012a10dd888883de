"""`fiat predict --deployment`: a deployment's answers to rows without targets, as its server gives them."""

from __future__ import annotations

import asyncio
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from fiat_jax import launcher, runtime, signals
from fiat_jax.configuration import Configuration
from fiat_jax.data.rows import Row, read_rows
from fiat_jax.decoding.engine import Lengths
from fiat_jax.errors import UserError
from fiat_jax.progress import progress, say
from fiat_jax.serving.predict import Deployed
from fiat_jax.serving.refusal import Refusal
from fiat_jax.verbs import deployed, deployed_beta
from fiat_jax.verbs.predict import check_output
from fiat_jax.whole import writing

ATTEMPTS = 3  # at a row whose big model fails
WAIT_SECONDS = 1.0
PASSING = (502, 503, 504)


def main(configuration: Configuration) -> None:
  """Writes OUTPUT, a line a row: what `/v1/predict` answers.

  Raises:
    UserError: no rows or no place is given, a row cannot be answered, or the base is another now.
  """
  settings = configuration.settings
  file = settings.data or settings.test
  if not file:
    raise UserError("no rows to answer: give --data FILE")
  check_output(settings)
  launcher.check_alone(settings, "fiat predict --deployment")
  rows = read_rows(file, settings.layout, labelled=False)
  runtime.start(settings)
  found, recipe, bench = deployed.bench_of(configuration.replace(data="", test=""))
  asked = deployed_beta.asked_of(configuration, recipe, found)
  deployed.unaided(bench, recipe)
  prompt, new = settings.source_length, settings.target_length
  ours = deployed.session_of_tau(bench, recipe, Lengths(prompt, prompt + new, new))
  beta = deployed_beta.session_of(asked, settings) if recipe.reasoning else None

  async def run() -> list[dict[str, Any]]:
    sessions = ours[1] if ours else None, beta[1] if beta else None
    # The samples of a row are asked for together, and none is to wait long for a place.
    many = max(1, 2 * settings.slots // settings.samples) if beta else 2 * settings.slots
    waiting = many * settings.samples
    async with deployed.running(settings, bench, recipe, found, *sessions, asked, waiting) as (answers, workers, _):
      try:
        return await _answered(answers, rows, many, file)
      finally:
        for worker in workers:
          worker.stop()

  answers = asyncio.run(run())
  with writing(pathlib.Path(settings.output)) as out:
    out.writelines(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
  failed = sum("beta_failed" in answer for answer in answers)
  fewer = sum("samples_missing" in answer for answer in answers)
  cost = sum(answer["cost"] for answer in answers)
  if failed:
    say(f"warning: {failed} of {len(answers)} rows were answered without the big model, which failed")
  if fewer:
    say(f"warning: in {fewer} of {len(answers)} rows fewer than {settings.samples} samples of the big model voted")
  spent = f", which cost {cost:.4f}" if cost else ""
  print(f"{settings.output} holds {len(answers)} answers{spent}")


async def _answered(answers: Deployed, rows: Sequence[Row], many: int, file: str) -> list[dict[str, Any]]:
  """The answers in the rows' order, so many rows at a time."""
  room = asyncio.Semaphore(many)
  with progress("answering", len(rows)) as bar:

    async def one(row: Row) -> dict[str, Any]:
      async with room:
        signals.check()
        found = await _patiently(answers, row, file)
        bar.advance()
        return found

    tasks = [asyncio.create_task(one(row)) for row in rows]
    try:
      return list(await asyncio.gather(*tasks))
    finally:
      for task in tasks:
        task.cancel()
      await asyncio.gather(*tasks, return_exceptions=True)


async def _patiently(answers: Deployed, row: Row, file: str) -> dict[str, Any]:
  """One row's answer; a big model that fails, or gives too few samples, is asked again before the policy holds."""
  spent = 0.0
  for attempt in range(1, ATTEMPTS + 1):
    wait = WAIT_SECONDS * attempt
    try:
      found = await answers.of_row(row, time.monotonic())
    except Refusal as e:
      wait = float(e.headers.get("retry-after", wait))
      if not (e.status in PASSING or "retry-after" in e.headers) or attempt == ATTEMPTS:
        raise UserError(f"{e.message}. What the big model said is kept", file, row.line) from None
    else:
      found["cost"] = spent = spent + found["cost"]  # of what this attempt did not find in the store
      if not found.keys() & {"beta_failed", "samples_missing"} or attempt == ATTEMPTS:
        return found
    await asyncio.sleep(wait)
  raise AssertionError("the last attempt returns or raises")
