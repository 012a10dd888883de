"""What `fiat serve --deployment` and `fiat predict --deployment` have in common: the two models of a deployment."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import AsyncIterator

from fiat_jax import resources
from fiat_jax.configuration import Configuration
from fiat_jax.decoding.engine import Engine, Lengths, Session
from fiat_jax.errors import UserError
from fiat_jax.exports import deployment
from fiat_jax.exports.deployment import Deployment
from fiat_jax.reasoning import reasoner
from fiat_jax.reasoning.engine import EngineReasoner
from fiat_jax.reasoning.forms import OF_OTHER_ROWS
from fiat_jax.reasoning.openai import EndpointReasoner
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.recipe import Recipe
from fiat_jax.serving import tau
from fiat_jax.serving.beta import Ask, Beta, over_http
from fiat_jax.serving.metrics import Metrics
from fiat_jax.serving.predict import Deployed
from fiat_jax.serving.turns import Turns
from fiat_jax.serving.worker import Worker
from fiat_jax.settings import Settings
from fiat_jax.verbs import deployed_beta, deployed_labels
from fiat_jax.workbench import Workbench, without_reasoning


def bench_of(configuration: Configuration) -> tuple[Deployment, Recipe, Workbench]:
  """The deployment, what it does with rows, and a bench without any.

  Raises:
    UserError: its base is not here, or is another now; or what it reads is made from several rows.
  """
  found = deployment.read(configuration.settings.deployment)
  if not configuration.settings.model:
    raise UserError(f"--model: give the base that it was trained on, {found.content.get('base')!r}", found.folder)
  recipe = configuration.recipe(deployment.RECIPE)
  if recipe.reasoning and recipe.reasoning_form in OF_OTHER_ROWS:
    message = f"reads {recipe.reasoning_form} reasoning, which other rows are drawn for: it answers no single row"
    raise UserError(message, found.folder)
  bench = Workbench(configuration.only().replace(store=""))  # which has no rows to join its reasoning to
  bench.prepare([recipe])
  deployment.check(found, bench.models.of(recipe).fingerprint)
  return found, recipe, bench


def store_of(settings: Settings, found: Deployment) -> pathlib.Path:
  """Where its reasoning is kept: STORE, or a folder in the cache."""
  return pathlib.Path(settings.store) if settings.store else resources.cache_folder("deployments") / found.digest


def unaided(bench: Workbench, recipe: Recipe) -> Recipe | None:
  """The form in which rows without reasoning are answered; None where the policy is to refuse them.

  Raises:
    UserError: there is no such form, and the policy asks for it.
  """
  if bench.settings.beta_fails != "tau_alone" or not recipe.reasoning:
    return None
  form = without_reasoning(recipe)
  try:
    bench.templates.of(form)
  except UserError:
    message = "--beta_fails tau_alone: its instruction holds the row on one line with the reasoning: give error"
    raise UserError(message) from None
  return form


@contextlib.asynccontextmanager
async def running(
  settings: Settings,
  bench: Workbench,
  recipe: Recipe,
  found: Deployment,
  session: Session | None,
  beta_session: Session | None,
  asked: Reasoner,
  waiting: int,
) -> AsyncIterator[tuple[Deployed, list[Worker], Metrics]]:
  """The deployment at work, with its engines' workers; the first is the tuned model's, where that runs here.

  `waiting`: how many questions may wait for an endpoint that is asked for reasoning.
  """
  metrics, workers = Metrics(), list[Worker]()
  described = bench.models.of(recipe)
  async with contextlib.AsyncExitStack() as open_:
    if session is None:
      client = await open_.enter_async_context(_client(settings.tau_url, settings.timeout))
      generate = tau.of_endpoint(client, settings.timeout, settings.tau_name)
    else:
      workers.append(Worker(session, slots=settings.slots, places=settings.slots + settings.queue, metrics=metrics))
      generate = tau.of_worker(workers[0], described.tokenizer)
    beta = None
    if recipe.reasoning:
      ask: Ask = deployed_beta.nobody
      turns = None
      if isinstance(asked, EndpointReasoner):
        ask = over_http(await open_.enter_async_context(asked.client()), asked.once)
        turns = Turns(settings, waiting)
      elif beta_session is not None and isinstance(asked, EngineReasoner):
        places = settings.slots + settings.queue
        workers.append(Worker(beta_session, slots=settings.slots, places=places, metrics=Metrics()))
        ask = deployed_beta.of_engine(workers[-1], asked, places)
      room = beta_session.lengths.whole if beta_session else None
      beta = Beta(settings, asked, ask, store_of(settings, found), room=room, turns=turns)
      open_.push_async_callback(beta.close)
    yield (
      Deployed(
        layout=settings.layout,
        recipe=recipe,
        unaided=unaided(bench, recipe),
        prompts=bench.templates.prompt_ids,
        longest=settings.source_length,
        most=settings.target_length,
        generate=generate,
        choose=deployed_labels.choose(bench, recipe, session) if settings.labels else None,
        beta=beta,
        answer_rule=settings.answer,
        timeout=settings.timeout,
        versions={
          "deployment": found.digest,
          "tau": found.fingerprint[:12],
          **({"beta": asked.name} if beta else {}),
          **found.content.get("versions", {}),
        },
      ),
      workers,
      metrics,
    )


def session_of_tau(bench: Workbench, recipe: Recipe, lengths: Lengths) -> tuple[Engine, Session] | None:
  """The tuned model, its weights read; None where it is served elsewhere.

  Raises:
    UserError: labels are to be scored elsewhere.
  """
  settings = bench.settings
  if settings.tau_url:
    if settings.labels:
      raise UserError("--tau_url: labels are scored, which endpoints do not: leave it out")
    return None
  engine = bench.models.engine(recipe)
  bench.models.let_go()  # of the tree that training scans: the engine has its own
  return engine, Session(engine, lengths)


@contextlib.asynccontextmanager
async def _client(url: str, timeout: float):
  import openai

  from fiat_jax.reasoning.api_key import key_of

  async with openai.AsyncOpenAI(
    api_key=key_of(reasoner.is_local(url)), base_url=url, max_retries=0, timeout=timeout
  ) as client:
    yield client
