"""A view of a store: the one reasoning of each row that the settings ask for, as the other verbs read it.

It is the file `reasoning/{digest}.jsonl` in the store (`data/reasoned.py` says how it looks), named by the digest of
the settings that say what is asked of whom. So a run that is evaluated months later reads the reasoning of the same
question to the same model, whatever the store has come to hold since, or is told that there is none.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Container, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from fiat_jax.errors import UserError
from fiat_jax.reasoning.request import VERSION, digest
from fiat_jax.reasoning.store import Store
from fiat_jax.whole import writing

if TYPE_CHECKING:
  from fiat_jax.settings import Settings

RECORDED, TRAIN = "recorded", "train"
CONTENT = "exemplars_content"

NAMES = (
  "beta",
  "beta_url",
  "beta_template",
  "reasoning_instruction",
  "exemplars",
  "shots",
  "shot_choice",
  "reasoning_length",
  "temperature",
  "samples",
  "answer",
)


def asked(settings: Settings) -> dict[str, Any]:
  """Those settings by name, what stands in a file of exemplars, and the version of how prompts are rendered."""
  if settings.beta == RECORDED:
    return {"beta": RECORDED, "answer": settings.answer}
  shots: dict[str, Any] = {} if settings.exemplars else {"shots": 0, "shot_choice": ""}
  if settings.reasoning_stops:
    shots["stops"] = list(settings.reasoning_stops)
  if settings.exemplars and settings.shot_choice == "random":
    shots["split_seed"] = settings.split_seed
  if settings.beta_weights:
    shots["beta_weights"] = settings.beta_weights
  if settings.exemplars not in ("", TRAIN):
    shots[CONTENT] = _content(settings.exemplars)
  return {name: getattr(settings, name) for name in NAMES} | shots | {"version": VERSION}


def place(settings: Settings) -> pathlib.Path:
  """Where the view of these settings is, made or not."""
  return pathlib.Path(settings.store) / "reasoning" / f"{digest(asked(settings))[:16]}.jsonl"


def find(settings: Settings) -> pathlib.Path:
  """The view of these settings; where they name no model, the only one that there is.

  Raises:
    UserError: there is none, or there are several to choose from.
  """
  wanted = place(settings)
  if wanted.exists():
    return wanted
  there = sorted(wanted.parent.glob("*.jsonl"))
  alike = [path for path in there if _asked_in(path) | {CONTENT: ""} == asked(settings) | {CONTENT: ""}]
  if len(alike) == 1 and not asked(settings).get(CONTENT, "none"):  # the exemplars' file has gone
    return alike[0]
  if not there:
    raise UserError("holds no reasoning: run `fiat annotate` with this --store first", settings.store)
  if settings.beta == RECORDED and len(there) == 1:
    return there[0]
  others = [_described(path, asked(settings)) for path in there]
  raise UserError(
    f"holds no reasoning that was asked for like this, but such: {'; '.join(others[:3])}. Give those settings, or run "
    "`fiat annotate` with these (what is the same is not paid for again)",
    settings.store,
  )


def keys(path: pathlib.Path) -> frozenset[str] | None:
  """Those of all requests that the view was made from; None where an older version made it, which did not say."""
  with open(path, encoding="utf-8") as file:
    next(file)
    found = [json.loads(line).get("keys") for line in file]
  return None if None in found else frozenset(key for of_row in found for key in of_row)


def models(settings: Settings) -> frozenset[str]:
  """Who wrote what the view of these settings holds: names as keys know them; none where no view is here."""
  try:
    wanted = (keys(find(settings)) if settings.store else None) or frozenset()
  except UserError:
    return frozenset()
  store = Store(pathlib.Path(settings.store), "")
  return frozenset(store.kept[key].asked[0] for key in wanted if store.answered(key))


def write(settings: Settings, records: Iterable[Mapping[str, Any]], rows: Container[str]) -> None:
  """Makes the view anew, whole. Of several processes only one may do that at a time (`Store.looked_at`).

  Args:
    records: of those of `rows` that have reasoning; what the view said of other rows stays.
  """
  path = place(settings)
  with writing(path) as file:
    file.write(json.dumps({"asked": asked(settings)}, ensure_ascii=False) + "\n")
    if path.exists():
      with open(path, encoding="utf-8") as before:
        next(before, None)
        file.writelines(line for line in before if json.loads(line)["row"] not in rows)
    for record in records:
      file.write(json.dumps(record, ensure_ascii=False) + "\n")


def make_room(settings: Settings) -> None:
  """Where a big model is named and its store holds no reasoning at all, an empty view: rows then have none."""
  if not settings.store or settings.beta == RECORDED or place(settings).exists():
    return
  folder = pathlib.Path(settings.store)
  folder.mkdir(parents=True, exist_ok=True)
  with Store(folder, "").looked_at():
    if not any(map(_holds_some, place(settings).parent.glob("*.jsonl"))):
      write(settings, (), ())


def _holds_some(path: pathlib.Path) -> bool:
  with open(path, encoding="utf-8") as file:
    return sum(1 for _ in zip(file, range(2), strict=False)) > 1


def _asked_in(path: pathlib.Path) -> dict[str, Any]:
  with open(path, encoding="utf-8") as file:
    return json.loads(file.readline())["asked"]


def _content(path: str) -> str:
  """The digest of a file of exemplars; empty where it is not there any more."""
  from fiat_jax.data import rows

  try:
    return rows.digest(path)
  except UserError:
    return ""


def _described(path: pathlib.Path, wanted: Mapping[str, Any]) -> str:
  """How the settings of a view differ from those that are wanted, as flags."""
  found = _asked_in(path)
  differ = [name for name in found if name not in ("version", CONTENT) and found[name] != wanted.get(name)]
  flags = " ".join(f"--{name} {str(found[name])[:40]!r}" for name in differ[:4])
  other = "with something else in the file of exemplars" if found.get(CONTENT) != wanted.get(CONTENT) else ""
  return flags or other or "of another version"
