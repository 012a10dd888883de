"""In-context learning, for `fiat compare`: a model is asked about validation and test, and nothing is tuned."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fiat_jax import compilations, stopwatch
from fiat_jax.data.reasoned import row_key
from fiat_jax.data.rows import Row
from fiat_jax.data.truncation import cut_prompts
from fiat_jax.errors import UserError
from fiat_jax.evaluation import latency
from fiat_jax.evaluation.evaluate import Prediction, summarise, write_predictions
from fiat_jax.models import lora
from fiat_jax.progress import progress, say
from fiat_jax.reasoning import costs, durations, in_context, outcome, plan, reasoner, view
from fiat_jax.reasoning.answers import AnswerRule, chosen
from fiat_jax.reasoning.desk import Desk
from fiat_jax.reasoning.engine import EngineReasoner
from fiat_jax.reasoning.ledger import Ledger, Price
from fiat_jax.reasoning.outcome import Outcome
from fiat_jax.reasoning.plan import Plan
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.reasoning.reasoner import Reasoner
from fiat_jax.reasoning.request import Request, digest
from fiat_jax.reasoning.store import Store
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.whole import read_result, write_whole
from fiat_jax.workbench import Workbench

ASKED = ("validation", "test")
PART = 0.25  # of the requests, of which fewer tell little of how long all take


@dataclasses.dataclass(frozen=True, kw_only=True)
class Asked:
  """A recipe's requests, and where what is answered goes."""

  recipe: Recipe
  settings: Settings
  reasoner: Reasoner
  plan: Plan
  store: Store

  @property
  def digest(self) -> str:
    return digest(list(self.plan.keys))


def judge(
  bench: Workbench, name: str, recipe: Recipe, folder: pathlib.Path, tried: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
  """What results say of the recipe, as far as the run folder does not say it yet; answers are kept as they come.

  Args:
    tried: the settings that were tried before, of which the bench has the best.

  Raises:
    UserError: MAX_COST is reached, or more answers are missing than COMPLETENESS allows.
  """
  asked = prepare(bench, recipe, folder)
  done, more = folder / "results.json", {"tried": list(tried)} if tried else {}
  if done.exists() and (found := read_result(done)).get("asked") == asked.digest:
    return found | more
  compilations.make_room()
  result: dict[str, Any] = {"recipe": name, "title": recipe.title, "asked": asked.digest, "shots": asked.plan.shots}
  seconds = ask(asked, bench.models.let_go)
  cut = {split: _cut(bench.rows[split], rows) for split, rows in asked.plan.rows.items()}
  result |= {"truncated": cut} if bench.templates.truncation else {}
  for split, predictions in predicted(asked, bench.rows).items():
    file = folder / "predictions" / f"{split}.jsonl"
    write_predictions(file, predictions, bench.settings.metrics, with_reasoning=recipe.thinks)
    result[split] = summarise(predictions, bench.settings.metrics)
  if seconds is not None and "test" in asked.plan.rows:
    result["answer_seconds"] = {"test": round(seconds * len(asked.plan.rows["test"]) / len(asked.plan.inputs), 3)}
  if timed := asked.reasoner.latency(_first(asked)) if isinstance(asked.reasoner, EngineReasoner) else _told(asked):
    result["latency"] = timed
  inputs = [row.x for row in asked.plan.rows.get("test", ())]
  result |= durations.of_inputs(asked.store.folder, inputs, frozenset(asked.plan.keys))
  if (cost := costs.per_1000(asked.store.folder, inputs, frozenset(asked.plan.keys))) is not None:
    result["reasoning_cost"] = cost
  result |= more
  write_whole(done, json.dumps(result, indent=2) + "\n")
  return result


def prepare(bench: Workbench, recipe: Recipe, folder: pathlib.Path, splits: Sequence[str] = ASKED) -> Asked:
  """Renders every prompt about these splits; nothing is asked, and no weights are read.

  Raises:
    UserError: exemplars are missing, a prompt is too long, or MAX_COST cannot be kept for want of the PRICE.
  """
  bench = bench.of(recipe)
  settings = in_context.settings_of(bench.settings, recipe)
  reasoner.require_price(settings)
  if recipe.in_context == "model":
    models = bench.models  # MODEL as it came, with the workbench's weights
    start = functools.partial(models.engine, recipe)
    asked: Reasoner = EngineReasoner(settings, settings.model, settings.weights, models.of(recipe), start)
  else:
    asked = reasoner.make(dataclasses.replace(bench.configuration, settings=settings))
  shown = in_context.exemplars_of(settings, recipe, bench.rows)
  rows = {split: bench.rows[split] for split in splits if split in bench.rows}
  template = in_context.template_of(settings, recipe)
  if bench.templates.truncation:
    rows = {split: _short(bench, found, template, asked) for split, found in rows.items()}
  planned = plan.of(settings, asked, rows, template, shown)
  bought = recipe.in_context == "beta" and settings.store
  store = Store(pathlib.Path(settings.store) if bought else folder / "answers", uuid.uuid4().hex[:12])
  return Asked(recipe=recipe, settings=settings, reasoner=asked, plan=planned, store=store)


def _short(bench: Workbench, rows: Sequence[Row], template: ReasoningPrompt, asked: Reasoner) -> list[Row]:
  """The rows with their x cut where TRUNCATE says so, so that the prompt without exemplars has SOURCE_LENGTH tokens."""
  found, limit = list(rows), bench.templates.truncation
  assert limit
  xs = cut_prompts(found, bench.settings.layout, lambda _, x: template.render(x, ()), asked.count, limit)
  return [dataclasses.replace(row, x=x) for row, x in zip(found, xs, strict=True)]


def _cut(rows: Sequence[Row], read: Sequence[Row]) -> int:
  return sum(row.x != other.x for row, other in zip(rows, read, strict=True))


def _first(asked: Asked) -> list[list[Request]]:
  """All requests about each of the first test rows."""
  places = [asked.plan.first[row_key(row.x)] for row in itertools.islice(asked.plan.rows.get("test", ()), latency.MOST)]
  return [[asked.plan.requests[place + n] for n in range(asked.plan.samples)] for place in places]


def _told(asked: Asked) -> dict[str, float]:
  """Seconds of test rows as an endpoint answered them, CONCURRENCY at a time; of several samples the slowest counts."""
  found = [asked.plan.keys_of(row_key(row.x)) for row in asked.plan.rows.get("test", ())]
  of_rows = [[asked.store.kept[key].seconds for key in keys if key in asked.store.kept] for keys in found]
  timed = [[one for one in seconds if one is not None] for seconds in of_rows]
  return latency.quantiles([max(seconds) for seconds in timed if len(seconds) == asked.plan.samples])


def parameters(asked: Reasoner) -> int:
  """Of a model that runs here; 0 of another."""
  return lora.count(asked.described.family.shapes()) if isinstance(asked, EngineReasoner) else 0


def predicted(asked: Asked, rows: Mapping[str, Sequence[Row]]) -> dict[str, list[Prediction]]:
  """What the answers come to, by split.

  Args:
    rows: as they came, which may be longer than they were asked about.

  Raises:
    UserError: more answers are missing than COMPLETENESS allows.
  """
  rule = AnswerRule.parse(asked.settings.answer) if asked.recipe.thinks else None
  outcomes = outcome.outcomes(asked.plan, asked.store, rule)
  _require(asked)
  return {
    split: [
      _prediction(asked, row, read, outcomes[row_key(read.x)]) for row, read in zip(rows[split], found, strict=True)
    ]
    for split, found in asked.plan.rows.items()
  }


def ask(asked: Asked, let_go: Callable[[], None] = lambda: None) -> float | None:
  """Asks what is not answered; the seconds that all of it takes, compiling left out, where a model of this machine
  answered: those of what was asked now, if that was a good part, for all.

  Args:
    let_go: frees the tuned model's memory for the big one: two models are not in memory together.

  Raises:
    UserError: MAX_COST is reached; answers are kept as they come.
  """
  settings, store, keys = asked.settings, asked.store, asked.plan.keys
  price = Price.parse(settings.price) if settings.price and asked.reasoner.remote else None
  before = sum(key in store.kept for key in keys)
  ledger = Ledger(store.folder, store.session, settings.max_cost, price.of(store.unpriced) if price else 0.0)
  try:
    ledger.reconcile(store.costs)
    with progress(f"asking: {asked.recipe.title}", len(keys), done=before) as bar:
      desk = Desk(store, ledger, price, asked.plan.requests, keys, bar.advance, again=settings.retry_failed)
      if not len(desk):
        return None
      fitting = f"{asked.plan.shots} of {settings.shots} exemplars fit" if asked.plan.shots < settings.shots else ""
      say(f"{asked.recipe.title}: {', '.join(filter(None, [asked.reasoner.name, fitting]))}; {len(desk)} to ask")
      store.begin({"recipe": asked.recipe.title, **view.asked(settings)}, asked.plan.requests[0].prompt)
      if asked.recipe.in_context == "beta":
        let_go()
      with stopwatch.warm() as elapsed:
        asked.reasoner.run(desk, asked.plan.requests)
      if desk.capped and len(desk):
        raise UserError(f"--max_cost {settings.max_cost:g} is reached: raise it, or leave out {asked.recipe.title!r}")
  finally:
    ledger.close()
  now = len(keys) - before
  return None if asked.reasoner.remote or now < PART * len(keys) else elapsed.seconds * len(keys) / now


def _require(asked: Asked) -> None:
  """Answers that cannot be used are the model's; that none came is not."""
  missing = [key for key in asked.plan.keys if key not in asked.store.kept]
  if len(missing) > (1 - asked.settings.completeness) * len(asked.plan.keys):
    why = next((asked.store.failures[key] for key in missing if key in asked.store.failures), "")
    raise UserError(
      f"{asked.recipe.title}: no answer came to {len(missing)} of {len(asked.plan.keys)} requests ({why}): run it "
      "again, or allow it with a lower --completeness"
    )


def _prediction(asked: Asked, row: Row, read: Row, found: Outcome) -> Prediction:
  """Where it reasons, the answer in it is the prediction; else the text up to a blank line. Of a row's labels, the one
  that it names."""
  if asked.recipe.thinks:
    kept = [key for key in asked.plan.keys_of(row_key(read.x)) if key in asked.store.kept]
    said = asked.store.text(found.key or kept[0]) if kept else ""
    fault = "" if found.answer else "unparsed" if found.key else "unfinished" if said else "empty"
    text, row = found.answer or "", dataclasses.replace(row, reasoning=said)
  else:
    (key,) = asked.plan.keys_of(row_key(read.x))
    text = _first_paragraph(asked.store.text(key)) if key in asked.store.kept else ""
    fault = "" if text and found.done else "unfinished" if text else "empty"
  return Prediction(row=row, text=chosen(text, row.labels), fault=fault)


def _first_paragraph(text: str) -> str:
  return text.strip().split("\n\n")[0].strip()


def lacking(settings: Settings, recipe: Recipe, rows: Mapping[str, Sequence[Row]]) -> str:
  """What the recipe needs beside rows to ask about, and is not there; else nothing."""
  if recipe.exemplars != "none" and (settings.try_shots or settings.try_shot_choices) and "validation" not in rows:
    return "--validation: rows on which the exemplars are chosen"
  if recipe.in_context == "beta" and settings.beta == view.RECORDED:
    return "--beta: a big model that can be asked, as --beta openai:NAME --beta_url URL, or one that runs here"
  if recipe.in_context == "beta" and settings.beta.startswith(reasoner.ENDPOINT) and not settings.store:
    return "--store: a folder that keeps what is bought"
  try:
    in_context.exemplars_of(in_context.settings_of(settings, recipe), recipe, rows)
  except UserError as e:
    return str(e).partition(" needs ")[2]
  return ""
