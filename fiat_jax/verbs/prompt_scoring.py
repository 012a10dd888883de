"""What a wording of an instruction is worth: the answers to rows that it leads to, scored by the task's own metric.

I_β is judged by the big model's own answers, read out of its reasoning as `fiat annotate` buys it. I_τ is judged in
context, by the tuned model as it came: that costs a fraction of tuning it with each, and is not the same.
"""

from __future__ import annotations

import dataclasses
import pathlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fiat_jax.configuration import Configuration
from fiat_jax.data.rows import Row
from fiat_jax.evaluation.statistics import FEWEST_GROUPS, Scored, resample
from fiat_jax.evaluation.verdict import score_interval
from fiat_jax.reasoning import costs, exemplars, plan
from fiat_jax.reasoning.candidates import Sought
from fiat_jax.reasoning.plan import Plan
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Request
from fiat_jax.reasoning.store import Store
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import asking
from fiat_jax.verbs.asking import Asked
from fiat_jax.workbench import Workbench

ANSWERS = "prompt_search"  # the folder of what the tuned model answered, and the name of the trail beside it
SPLIT = "validation"
OF_BETA = Recipe(adapter="none", in_context="beta", thinks=True, title="wordings of --reasoning_instruction")
OF_TUNED = Recipe(adapter="none", in_context="model", title="wordings of --instruction")

Prepare = Callable[[str], Asked]  # what is asked under a wording


def prepared(
  configuration: Configuration,
  sought: Sought,
  rows: Sequence[Row],
  path: str,
  home: pathlib.Path,
  beta: Reasoner | None,
) -> Prepare:
  """How wordings are asked about these rows.

  Args:
    path: where the rows are read from.
    home: the folder in which the tuned model's answers are kept.
    beta: the big model, where there is one to be asked.
  """
  if sought == "reasoning_instruction":
    assert beta
    return lambda text: _of_beta(configuration, text, rows, beta)
  bench = Workbench(configuration.replace(data="", train="", validation=path, test="", store=""))
  bench.prepare([OF_TUNED])

  def of_tuned(text: str) -> Asked:
    return asking.prepare(bench.under(bench.configuration.replace(instruction=text)), OF_TUNED, home / ANSWERS)

  return of_tuned


def _of_beta(configuration: Configuration, text: str, rows: Sequence[Row], beta: Reasoner) -> Asked:
  settings = dataclasses.replace(configuration.settings, reasoning_instruction=text)
  shown = exemplars.load(settings)
  settings = settings if shown else dataclasses.replace(settings, shots=0)
  planned = plan.of(settings, beta, {SPLIT: rows}, ReasoningPrompt.parse(text), shown)
  return Asked(recipe=OF_BETA, settings=settings, reasoner=beta, plan=planned, store=store_of(configuration))


def store_of(configuration: Configuration) -> Store:
  """STORE, for one who asks."""
  return Store(pathlib.Path(configuration.settings.store), uuid.uuid4().hex[:12])


def of_requests(configuration: Configuration, title: str, beta: Reasoner, requests: Sequence[Request]) -> Asked:
  """Requests to the big model that are about no rows."""
  settings = configuration.settings
  keys = [request.key for request in requests]
  planned = Plan({}, {}, requests, keys, {}, 1, settings.shots)
  recipe = dataclasses.replace(OF_BETA, title=title)
  return Asked(recipe=recipe, settings=settings, reasoner=beta, plan=planned, store=store_of(configuration))


def score(asked: Asked, rows: Sequence[Row], metric: str) -> dict[str, Any]:
  """Asks what is not answered yet; `score`, its `interval`, how many `rows`, the `cost` where it is known.

  Raises:
    UserError: MAX_COST is reached, or answers are missing; what came is kept.
  """
  asking.ask(asked)
  found = asking.predicted(asked, {SPLIT: rows})[SPLIT]
  values = np.array([[prediction.scores([metric])[metric] for prediction in found]])
  scored = Scored(scores={"": values}, langs=[row.lang for row in rows], groups=[row.group for row in rows])
  inputs = {row.x for row in asked.plan.rows[SPLIT]}
  cost = costs.per_1000(asked.store.folder, inputs, frozenset(asked.plan.keys))
  return {
    "score": round(scored.macro(""), 6),
    "interval": score_interval(resample(scored), "") if len(set(scored.groups)) >= FEWEST_GROUPS else None,
    "metric": metric,
    "rows": len(rows),
    "no_whole_answer": sum(bool(prediction.fault) for prediction in found),
    "by_model": asked.reasoner.name,
    "cost": None if cost is None else cost * len(inputs) / 1000,
  }
