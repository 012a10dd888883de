"""Command-line words: a lower-case flag for every macro, `--gin_file`, `--gin.NAME=VALUE` and a few more."""

from __future__ import annotations

import dataclasses
import textwrap

from fiat_jax import prompts
from fiat_jax.errors import UserError
from fiat_jax.macros import declared, kind

SHORT = {"from": "from_file"}  # `from` is no name that a setting can have
ROWS = ("DATA", "TRAIN", "VALIDATION", "TEST")  # who gives two files means both; of other flags the last one counts
TRUTHS = {"true": True, "1": True, "false": False, "0": False}


@dataclasses.dataclass
class Flags:
  """What was given, not yet looked into. `settings` maps macro names to the flags' texts."""

  gin_files: list[str] = dataclasses.field(default_factory=list)
  bindings: list[str] = dataclasses.field(default_factory=list)
  settings: dict[str, str] = dataclasses.field(default_factory=dict)
  search_paths: list[str] = dataclasses.field(default_factory=list)
  quiet: bool = False


def parse(words: list[str]) -> Flags:
  """Reads `--name value` and `--name=value`.

  Raises:
    UserError: an unknown flag (the nearest is named), one without its value, a second file of rows where one is read,
      a word that belongs to none.
  """
  switches = {name.lower() for name, setting in declared().items() if isinstance(setting.default, bool)} | {"quiet"}
  known = {name.lower() for name in declared()} | {"gin_file", "gin_search_paths", "quiet"}
  flags, rest = Flags(), list(words)
  while rest:
    word = rest.pop(0)
    if not word.startswith("--"):
      raise UserError(f"the word {word!r} belongs to no flag: a value with blanks is put in quotes")
    name, equals, value = word[2:].partition("=")
    name = SHORT.get(name, name)
    if name.startswith("gin."):
      flags.bindings.append(word[len("--gin.") :])
      continue
    if name not in known:
      raise UserError(f"the flag --{name} is {prompts.nearest(name, known)}")
    if name in switches:  # alone it is true; only a word that says so is taken as its value
      if not equals:
        value = rest.pop(0) if rest and rest[0].lower() in TRUTHS else "true"
      truth = _truth(name, value)
      if name == "quiet":
        flags.quiet = truth
      else:
        flags.settings[name.upper()] = str(truth)
      continue
    if not equals:
      if not rest or rest[0].startswith("--"):  # a text that begins so is given as --name=--text
        raise UserError(f"the flag --{name} needs a value")
      value = rest.pop(0)
    if name == "gin_file":
      flags.gin_files.append(value)
    elif name == "gin_search_paths":
      flags.search_paths += value.split(",")
    else:
      before = flags.settings.get(name.upper(), "")
      if name.upper() in ROWS and before and value and before != value:
        raise UserError(f"--{name} is given twice, as {before} and {value}: give one file")
      flags.settings[name.upper()] = value
  return flags


def _truth(name: str, text: str) -> bool:
  if text.lower() not in TRUTHS:
    raise UserError(f"--{name}={text}: give --{name}, or --{name}=false")
  return TRUTHS[text.lower()]


def help_text(verb: str, says: str, example: str) -> str:
  """What `fiat VERB --help` prints."""
  lines = [f"fiat {verb}: {says}", "", f"  {example}", "", "settings (with their defaults):"]
  for name, setting in declared().items():
    default = ",".join(map(str, setting.default)) if isinstance(setting.default, tuple) else setting.default
    shown = "" if default == "" or default is False else f" (default: {default})"
    value = "" if isinstance(default, bool) else f" {kind(setting.default).upper().split(',')[0]}"
    lines += textwrap.wrap(
      f"--{name.lower()}{value}  {setting.help}{shown}",
      width=116,
      initial_indent="  ",
      subsequent_indent="      ",
      break_on_hyphens=False,
    )
  lines += ["", "  --gin_file FILE, --gin.NAME=VALUE, --gin_search_paths DIR,DIR, --quiet"]
  return "\n".join(lines)
