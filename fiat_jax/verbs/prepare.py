"""`fiat prepare NAME`: a published set as rows that every verb reads, under `prepared:NAME:SPLIT`."""

from __future__ import annotations

import pathlib

from fiat_jax import prompts, resources
from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.preparation import prepare
from fiat_jax.preparation.registry import SETS
from fiat_jax.preparation.sets import Set
from fiat_jax.progress import say


def main(configuration: Configuration) -> None:
  settings = configuration.settings
  if not settings.set:
    print("\n".join(_line(known) for known in SETS.values()))
    return
  if settings.set not in SETS:
    raise UserError(f"the set {settings.set!r} is {prompts.nearest(settings.set, SETS)}")
  if settings.sample and settings.from_file:
    raise UserError("--sample and --from: give one of them")
  wanted = SETS[settings.set]
  given = pathlib.Path(settings.from_file) if settings.from_file else None
  given = prepare.sample_folder(wanted.name) if settings.sample else given
  folder = pathlib.Path(settings.output) if settings.output else resources.cache_folder("sets") / wanted.name
  say(f"{wanted.title}; licence: {wanted.licence}; {wanted.home}")
  if wanted.unseen and not settings.sample:
    say(f"not checked against its source: {wanted.unseen}")
  made = prepare.prepare(wanted, folder, given, sample=settings.sample, incomplete=settings.incomplete)
  for part, languages in made["rows"].items():
    view, _, split = part.rpartition("/")
    name = f"prepared:{wanted.name}{'/' + view if view else ''}:{split}"
    path = f"{folder}/{part}.jsonl" if settings.output else name
    many = f" in {len(languages)} languages" if len(languages) > 1 else ""
    print(f"{path}  {sum(languages.values()):,} rows{many}")
  for source in made["sources"]:
    if "sha256" in source:
      say(f"SHA-256 {source['sha256']}  {source['address']}")
  if settings.sample:
    say("these are a few rows in the set's format, written for this project: scores on them say nothing about the set")


def _line(known: Set) -> str:
  return f"{known.name:<16} {known.title}; {known.licence}"
