"""`fiat serve`: a checkpoint, or a run's best one, behind OpenAI's protocol."""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import socket

from fiat_jax import launcher, runtime, signals
from fiat_jax.configuration import Configuration
from fiat_jax.decoding import warm
from fiat_jax.decoding.engine import Engine, Session
from fiat_jax.errors import UserError
from fiat_jax.progress import progress, say
from fiat_jax.serving import server
from fiat_jax.serving.app import Served, application
from fiat_jax.serving.guard import token_for
from fiat_jax.serving.limits import Limits
from fiat_jax.serving.metrics import Metrics
from fiat_jax.serving.worker import Worker
from fiat_jax.serving.workers import Workers
from fiat_jax.verbs.best import restore_best
from fiat_jax.verbs.train import one_recipe
from fiat_jax.workbench import Workbench

AS_IT_CAME = "untuned"


def main(configuration: Configuration) -> None:
  """Serves until a signal comes.

  Raises:
    UserError: an address that cannot be had or has no token, or a model or run that is not to be had.
    Stopped: by a signal, all answers given.
  """
  settings = configuration.settings
  settings.answers("serve")
  launcher.check_alone(settings, "fiat serve")
  token = token_for(settings.host)
  with server.bind(settings.host, settings.port) as bound:
    runtime.start(settings)
    if settings.deployment:
      return _serve_deployment(configuration, bound, token)
    engine, served = load(configuration)
    session = Session(engine, served.limits.lengths)
    compile_all(session)
    asyncio.run(_serve(configuration, session, served, bound, token))


def load(configuration: Configuration) -> tuple[Engine, Served]:
  """MODEL as it came, or, where the configuration is a run's, what the run trained."""
  settings = configuration.settings
  of_run = bool(settings.recipes)  # a run's configuration names its recipe
  recipe = configuration.recipe(one_recipe(settings) if of_run else AS_IT_CAME)
  if not recipe.runs_model:
    raise UserError(f"the recipe {recipe.title!r} has answers of the big model: there is no model to serve")
  folder = pathlib.Path(settings.model_dir)
  bench = Workbench(configuration.only())
  bench.prepare([recipe])
  trained = restore_best(bench, recipe, folder)
  name = configuration.model_of(recipe) if trained is None else settings.model_dir
  model = bench.models.of(recipe)
  limits = Limits.of(settings, model.family.room)
  names = tuple(dict.fromkeys((pathlib.Path(name).name, name)))
  say(
    f"{names[0]}: prompts of up to {limits.prompt} tokens, answers of up to {limits.answer}, {settings.slots} at a time"
  )
  engine = bench.models.engine(recipe, trained)
  bench.models.let_go()  # of the tree that training scans: the engine has its own
  return engine, Served(names=names, tokenizer=model.tokenizer, limits=limits)


def _serve_deployment(configuration: Configuration, bound: socket.socket, token: str) -> None:
  """The same of a deployment, which answers rows too."""
  from fiat_jax.verbs import deployed, deployed_beta, deployed_labels  # the package `openai` is slow to import

  settings = configuration.settings
  found, recipe, bench = deployed.bench_of(configuration)
  asked = deployed_beta.asked_of(configuration, recipe, found)
  deployed.unaided(bench, recipe)  # refused before anything is read
  model = bench.models.of(recipe)
  most = max(settings.target_length, settings.max_tokens)
  limits = Limits.of(dataclasses.replace(settings, max_tokens=most), model.family.room)
  ours = deployed.session_of_tau(bench, recipe, limits.lengths)
  beta = deployed_beta.session_of(asked, settings) if recipe.reasoning else None
  for own in filter(None, (ours, beta)):
    compile_all(own[1])
  if ours and settings.labels:
    deployed_labels.compile_all(bench, recipe, ours[0])
  served = Served(names=(found.folder.name, str(found.folder)), tokenizer=model.tokenizer, limits=limits)

  async def run() -> None:
    sessions = ours[1] if ours else None, beta[1] if beta else None
    waiting = settings.queue * settings.samples
    async with deployed.running(settings, bench, recipe, found, *sessions, asked, waiting) as at_work:
      answers, workers, metrics = at_work
      first = workers[0] if ours else None
      app = application(served, first, metrics, token=token, predict=answers.route)
      await server.serve(app, bound, Workers(workers), drain=settings.drain, on_listening=lambda: _listening(bound))

  asyncio.run(run())


def _listening(bound: socket.socket) -> None:
  print(f"listening on {server.address(bound)}", flush=True)


def compile_all(session: Session) -> None:
  """Runs every program once, so that no client waits for a compiler."""
  batches = warm.batches(session.engine, session.lengths)
  with progress("compiling", len(batches)) as bar:
    for batch in batches:
      for request in batch:
        session.add(request)
      while len(session):
        session.advance()
      signals.check()
      bar.advance()


async def _serve(
  configuration: Configuration, session: Session, served: Served, bound: socket.socket, token: str
) -> None:
  settings, metrics = configuration.settings, Metrics()
  worker = Worker(session, slots=settings.slots, places=served.limits.answers, metrics=metrics)
  app = application(served, worker, metrics, token=token)
  await server.serve(app, bound, worker, drain=settings.drain, on_listening=lambda: _listening(bound))
