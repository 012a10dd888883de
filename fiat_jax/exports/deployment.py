"""`deployment.json`: all that answers a row as a run did, in one file beside the weights, and its way back in.

It holds the settings that say how a row is read, how the big model and the tuned one are asked and how an answer is
read out of reasoning, the recipe's switches, the fingerprint of the weights, and who wrote the reasoning that it was
trained on. Weights and exemplars lie beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import pathlib
from collections.abc import Container, Mapping, Sequence
from typing import Any

from fiat_jax.checkpoints.huggingface import read_json
from fiat_jax.checkpoints.locate import is_place, public_name
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.data.row import Row
from fiat_jax.errors import UserError
from fiat_jax.prompts import nearest
from fiat_jax.reasoning import reasoner, view
from fiat_jax.reasoning.request import VERSION as PROMPT_VERSION
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.workbench import Workbench

ADDRESSES = ("beta_url", "tau_url")
FILE, EXEMPLARS = "deployment.json", "exemplars.jsonl"
VERSION = 1
RECIPE = "deployed"
OF_ROWS = ("target", "lang", "group", "id", "reasoning", "input", "labels", "truncate")
OF_TAU = ("instruction", "template", "dtype", "weights", "source_length", "target_length", "answer", "prompt_tokens")
OF_BETA = ("beta", "beta_url", "beta_template", "beta_weights", "beta_context", "reasoning_instruction", "shots")
OF_BETA += ("shot_choice", "split_seed", "reasoning_length", "stops", "temperature", "samples", "price", "timeout")
SETTINGS = (*OF_ROWS, *OF_TAU, *OF_BETA)
ROUTE = (
  "beta_fails",
  "max_cost_a_day",
  "tau_url",
  "tau_name",
)  # what whoever deploys decides, with what holds where nobody does


def write(folder: pathlib.Path, bench: Workbench, recipe: Recipe, form: str, x: str) -> None:
  """Writes the file, and the exemplars that the big model is shown, into an export of `form`.

  The weights stand in the folder already. `x` is its template over columns (`columns.template`).
  """
  settings = bench.settings
  kept = {name: getattr(settings, name) for name in SETTINGS}
  kept |= {"input": x, "weights": ""}  # the export's own
  name = bench.configuration.model_of(recipe)
  alone = form == "huggingface"
  described = bench.models.of(recipe)
  base = public_name(described.path)
  if "@" in base and name not in bench.configuration.models:
    name = base  # the Hub's revision that was read
  kept |= {"model": "." if alone else "" if is_place(name) else name, "adapter": "" if alone else "."}
  switches = dataclasses.asdict(recipe) | {
    "adapter": "none",
    "adapted": "attention",
    "begins_with": "",
    "overrides": {},
  }
  switches["instruction_tuned"] = True  # MODEL is what was tuned, whichever of the two it came from
  kept["template"] = "plain" if bench.configuration.plain(recipe) else settings.template
  if recipe.needs_reasoning and (rows := shown(settings)):
    kept["exemplars"] = EXEMPLARS
    lines = (json.dumps(_record(row, settings), ensure_ascii=False) for row in rows)
    (folder / EXEMPLARS).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
  fingerprint = open_checkpoint(folder).fingerprint if alone else described.fingerprint
  written = {
    "deployment": VERSION,
    "versions": {"fiat_jax": importlib.metadata.version("fiat_jax"), "prompt": PROMPT_VERSION},
    "base": base,
    "fingerprint": fingerprint,
    "reasoned_by": sorted(view.models(settings)) if recipe.needs_reasoning else [],
    "settings": kept | {name: getattr(settings, name) for name in ROUTE},
    "recipe": switches,
  }
  if os.path.isabs(kept["beta"]) or is_place(kept["beta"]):
    written["settings"]["beta"] = ""  # a path of this machine
  (folder / FILE).write_text(json.dumps(written, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def shown(settings: Settings) -> Sequence[Row]:
  """The rows with reasoning that the big model is shown some of, in their order."""
  from fiat_jax.reasoning import exemplars

  found = None if settings.beta == view.RECORDED else exemplars.load(settings)
  return found.candidates if found else ()


def _record(row: Row, settings: Settings) -> dict[str, Any]:
  record: dict[str, Any] = {settings.id: row.id, settings.lang: row.lang, settings.group: row.group, **row.fields}
  record[settings.reasoning] = row.reasoning
  return record | ({settings.labels: list(row.labels)} if isinstance(settings.labels, str) and settings.labels else {})


@dataclasses.dataclass(frozen=True)
class Deployment:
  """A file that was read: its folder, its content, and a short name of it that changes when anything in it does."""

  folder: pathlib.Path
  content: Mapping[str, Any]
  digest: str

  @property
  def fingerprint(self) -> str:
    return self.content["fingerprint"]


def read(path: str) -> Deployment:
  """A deployment by its file or its folder.

  Raises:
    UserError: there is none, it is broken, or of a later version.
  """
  place = pathlib.Path(path).expanduser()
  file = place / FILE if place.is_dir() else place
  if not file.exists():
    raise UserError(f"there is no {FILE}: give an export of `fiat export`, or its {FILE}", place)
  content = read_json(file)
  if content.get("deployment") != VERSION:
    raise UserError(f"is a deployment of version {content.get('deployment')!r}, and this reads {VERSION}", file)
  kinds = {"settings": dict, "recipe": dict, "fingerprint": str}
  missing = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
  if missing:
    raise UserError(f"lacks {', '.join(missing)}, or holds something else there: export again", file)
  return Deployment(file.resolve().parent, content, hashlib.sha256(file.read_bytes()).hexdigest()[:12])


def check_addresses(deployment: Deployment, given: Container[str]) -> None:
  """Raises UserError where it would send rows and the user's key to an address that nobody confirms.

  Args:
    given: the settings that the user names.
  """
  for name in ADDRESSES:
    url = deployment.content["settings"].get(name)
    if url and name.upper() not in given and not reasoner.is_local(str(url)):
      raise UserError(
        f"rows, and the key in OPENAI_API_KEY, would go to {url}: confirm it with --{name} {url}, or give another",
        deployment.folder / FILE,
      )


def bindings(deployment: Deployment) -> list[str]:
  """Its settings and its recipe's switches as `NAME=VALUE`, with the paths beside it made whole."""
  known = {field.name for field in dataclasses.fields(Settings)}
  found = []
  for name, value in deployment.content["settings"].items():
    if name not in known:
      raise UserError(f"the setting {name!r} is {nearest(name, known)}", deployment.folder / FILE)
    if (name in ("model", "adapter") and value == ".") or name == "exemplars":
      value = str(deployment.folder / value)
    value = tuple(value) if isinstance(value, list) else value
    found.append(f"{name.upper()}={value!r}")
  switches = {field.name for field in dataclasses.fields(Recipe)}
  for name, value in deployment.content["recipe"].items():
    if name not in switches:  # nor is it a line of gin's
      raise UserError(f"the switch {name!r} is {nearest(name, switches)}", deployment.folder / FILE)
    found.append(f"{RECIPE}/Recipe.{name}={value!r}")
  return [*found, f"RECIPES=({RECIPE!r},)"]


def check(deployment: Deployment, fingerprint: str) -> None:
  """Raises UserError where the base is another than the deployment was made for."""
  if fingerprint != deployment.fingerprint:
    raise UserError(
      f"was made for {deployment.content.get('base')!r}, and the weights that are here now have another fingerprint: "
      "give --model the base that it was trained on (in the same form), or export again",
      deployment.folder / FILE,
    )
