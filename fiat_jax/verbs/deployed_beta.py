"""The big model of a deployment: which it is, its session where it runs here, and how it is asked there."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fiat_jax.configuration import Configuration
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.errors import UserError
from fiat_jax.exports.deployment import Deployment
from fiat_jax.progress import say
from fiat_jax.reasoning import exemplars, reasoner
from fiat_jax.reasoning.engine import EngineReasoner
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Answer, Request
from fiat_jax.reasoning.view import RECORDED
from fiat_jax.recipe import Recipe
from fiat_jax.serving import tau
from fiat_jax.serving.beta import Ask
from fiat_jax.serving.refusal import Refusal
from fiat_jax.serving.turns import Unanswered
from fiat_jax.serving.worker import Worker
from fiat_jax.settings import Settings


def asked_of(configuration: Configuration, recipe: Recipe, found: Deployment) -> Reasoner:
  """The big model of a deployment; of one whose recipe reads no reasoning nobody is asked.

  One that did not write what the tuned model was trained on is used, and said.

  Raises:
    UserError: it stood in a file or folder of another machine, or is not to be had; or MAX_COST cannot be kept.
  """
  if recipe.reasoning and not configuration.settings.beta:
    raise UserError("--beta: the deployment's big model was a file or folder elsewhere: name it, or give recorded")
  if recipe.reasoning:
    _require_books(configuration.settings)
  asked = reasoner.make(configuration if recipe.reasoning else configuration.replace(beta=RECORDED))
  wrote = [str(name) for name in found.content.get("reasoned_by", ())]
  if recipe.reasoning and wrote and configuration.settings.beta != RECORDED and not _among(asked.name, wrote):
    say(f"warning: the tuned model was trained on reasoning of {', '.join(wrote)}, and {asked.name} answers now")
  return asked


def _require_books(settings: Settings) -> None:
  """Raises UserError where MAX_COST, which counts what all commands spend on a STORE, has no price or no store."""
  reasoner.require_price(settings)
  if settings.max_cost and not settings.store and settings.beta.startswith(reasoner.ENDPOINT):
    raise UserError(f"--max_cost {settings.max_cost:g} is counted over a store, and none is named: give --store FOLDER")


def _among(name: str, names: Sequence[str]) -> bool:
  """Whether it is one of them; a checkpoint by the fingerprint and form of its weights, wherever it lies."""
  return name.rpartition("@")[2] in [other.rpartition("@")[2] for other in names]


def session_of(asked: Reasoner, settings: Settings) -> tuple[Engine, Session] | None:
  """The big model, where it runs here, with room for its exemplars and for twice what the tuned model reads.

  Raises:
    UserError: the model has no room for an answer.
  """
  if not isinstance(asked, EngineReasoner):
    return None
  length = settings.reasoning_length
  whole = exemplars.longest_head(settings, asked) + 2 * settings.source_length + length
  whole = min(whole, asked.context or whole)
  if whole <= length:
    raise UserError(f"--reasoning_length {length} leaves no room for a prompt: the big model takes {whole} tokens")
  return asked.engine, Session(asked.engine, Lengths(whole - length, whole, length))


async def nobody(request: Request) -> Answer:
  """What is asked where no big model is."""
  raise AssertionError("no big model is named, and nobody is asked")


def of_engine(worker: Worker, asked: EngineReasoner, places: int) -> Ask:
  """Asks the big model behind a worker in this process, of whose places a question waits for one."""
  tokenizer, free = asked.described.tokenizer, asyncio.Semaphore(places)

  async def ask(request: Request) -> Answer:
    (ids,) = tokenizer.encode_prompts([request.prompt])
    say = tau.of_worker(
      worker, tokenizer, temperature=request.asking.temperature, seed=request.seed, stops=request.asking.stops
    )
    try:
      async with free:
        said = await say(ids, request.asking.length)
    except Refusal as e:
      raise Unanswered(f"the big model: {e.message}", e.status) from None
    return Answer(text=said.text, finish=said.finish, tokens=said.tokens)

  return ask
