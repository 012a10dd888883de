"""Data sets by name, fetched once into the cache folder: `hf:OWNER/NAME:SPLIT` of the Hub, `tfds:NAME/CONFIG:SPLIT`;
and `prepared:NAME/VIEW:SPLIT`, which `fiat prepare NAME` has put there.

The split is `train` where none is named. What was fetched stays as it is until the cache folder is emptied, so that a
run goes on with the rows it began with. A Hub name may be a local folder, which is read anew.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import re

from fiat_jax import children, progress
from fiat_jax.errors import UserError
from fiat_jax.resources import cache_folder

NAME = re.compile(r"(?P<kind>hf|tfds|prepared):(?P<name>[^:]+)(?::(?P<split>[^:]+))?")


def fetch(file: pathlib.Path) -> pathlib.Path:
  """The file itself, or where the rows of the data set that it names lie.

  Raises:
    UserError: the data set is not to be had; why, and what to do.
  """
  match = NAME.fullmatch(str(file))
  if not match:
    return file
  name, split = match["name"], match["split"] or "train"
  if match["kind"] == "prepared":
    return _prepared(name, split, file)
  suffix = ".parquet" if match["kind"] == "hf" else ".jsonl"
  key = hashlib.sha256(f"{match['kind']}:{name}:{split}".encode()).hexdigest()[:32]
  place = cache_folder("datasets") / f"{key}{suffix}"
  if place.exists() and not os.path.isdir(name):
    return place
  progress.say(f"{file}: fetching")
  partial = place.with_name(f"{place.name}.{os.getpid()}.partial")
  try:
    (_fetch_hub if match["kind"] == "hf" else _fetch_tfds)(name, split, partial, file)
    os.replace(partial, place)
  finally:
    partial.unlink(missing_ok=True)
  return place


def _prepared(name: str, split: str, called: pathlib.Path) -> pathlib.Path:
  folder = cache_folder("sets")
  place, manifest = folder / name / f"{split}.jsonl", folder / name.split("/")[0] / "prepared.json"
  if not manifest.exists():
    raise UserError(f"is not there yet: fiat prepare {name.split('/')[0]}", called)
  made = json.loads(manifest.read_text(encoding="utf-8"))
  if not place.exists():
    parts = (part.rpartition("/") for part in made["rows"])
    names = [f"prepared:{'/'.join(filter(None, (made['name'], view)))}:{last}" for view, _, last in parts]
    raise UserError(f"is no part of the set: there is {', '.join(names)}", called)
  if made["sample"]:
    _say_once(f"{called}: the few rows that ship with the project, not {made['name']} itself")
  if made.get("missing"):
    _say_once(f"{called}: the set is not whole, as fiat prepare --incomplete took it: {made['missing'][0]}")
  return place


@functools.cache
def _say_once(text: str) -> None:
  progress.say(text)


def _fetch_hub(name: str, split: str, place: pathlib.Path, called: pathlib.Path) -> None:
  try:
    import datasets  # pyright: ignore[reportMissingImports]  the extra [hub]
  except ImportError:
    raise UserError("needs the package `datasets`: pip install 'fiat_jax[hub]'", called) from None
  try:
    with contextlib.redirect_stdout(None):
      datasets.load_dataset(name, split=split).to_parquet(str(place))
  except Exception as e:  # the library raises many kinds, where there is no network above all
    raise UserError(f"cannot be fetched ({_reason(e)}): check the name, the split and the network", called) from None


def _fetch_tfds(name: str, split: str, place: pathlib.Path, called: pathlib.Path) -> None:
  child = children.start("fiat_jax.data.tfds", json.dumps({"name": name, "split": split, "place": str(place)}))
  _, errors = child.communicate()
  if child.returncode:
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    reason = told[-1].removeprefix("error: ") if told else f"its process ended with {child.returncode}"
    raise UserError(f"cannot be fetched ({reason}): check the name, the split and the network", called)


def _reason(error: Exception) -> str:
  return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
