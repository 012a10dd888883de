"""gin at the door: files, overrides and plain flags become a `Settings`; nothing behind this module reads gin."""

from __future__ import annotations

import copy
import dataclasses
import glob
import logging
import math
import pathlib
import re
import tokenize
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gin
from gin.config import parse_value

from fiat_jax import prompts, resources
from fiat_jax.checkpoints.locate import HUB, MADE, PACKAGE, Checkpoint, Located, locate
from fiat_jax.errors import UserError
from fiat_jax.limits import TRIED
from fiat_jax.macros import Declared, declared, kind
from fiat_jax.recipe import ModelSetting, Recipe
from fiat_jax.settings import OF_COMMAND, OF_MACHINE, SPLITS, Settings

TEMPLATES = ("INPUT", "INSTRUCTION", "REASONING_INSTRUCTION", "STOPS")  # in these flags `\n` is a newline
NEEDED: dict[ModelSetting, str] = {
  "model": "the model that is tuned, a name under gin/models/, a folder, a GGUF file or a name on the Hub",
  "base_model": "a model without instruction tuning, such as mt5_small beside --model mt0_small",
}

# What lists hold that are no texts.
NUMBERS = {"SEEDS": int, "TRY_LEARNING_RATES": float, "TRY_EPOCHS": float, "TRY_SIZES": int, "TRY_SHOTS": int}

_recipe = gin.external_configurable(Recipe, "Recipe")
_checkpoint = gin.external_configurable(Checkpoint, "Checkpoint")


@dataclasses.dataclass(frozen=True)
class Configuration:
  """Settings, and the recipes and models that gin files name; `command` is what was typed, as a shell takes it.

  `again` gives what the same command gives with these gin files after its own.
  """

  settings: Settings
  recipes: Mapping[str, Recipe]
  models: Mapping[str, Checkpoint]
  command: str = ""
  again: Callable[[Sequence[str]], Configuration] | None = None

  def recipe(self, name: str) -> Recipe:
    if name not in self.recipes:
      raise UserError(f"the recipe {name!r} is {prompts.nearest(name, self.recipes)}")
    return self.recipes[name]

  def model_of(self, recipe: Recipe) -> str:
    """What the user calls the model that a recipe works on.

    Raises:
      UserError: none is given.
    """
    setting = recipe.model_setting
    if not (name := getattr(self.settings, setting)):
      raise UserError(f"the recipe {recipe.title!r} needs --{setting}: {NEEDED[setting]}")
    return name

  def origin(self, recipe: Recipe, path: str) -> str:
    """Where else that model is had, which was read from `path`, in words; empty where nothing is known of that."""
    sources = self.models.get(self.model_of(recipe), Checkpoint()).sources
    same = [source for source in sources if source.rpartition("/")[2] == pathlib.PurePath(path).name]
    package = next((source.removeprefix(PACKAGE) for source in same if source.startswith(PACKAGE)), "")
    if not package:
      return ""
    hub = next((source.removeprefix(HUB) for source in sources if source.startswith(HUB)), "")
    other = f"; the Hub's {hub} has other weights, on which this was not measured" if hub else ""
    return f" of the Python package {package.partition('/')[0]}{other}"

  def located(self, recipe: Recipe) -> Located:
    """Where the model lies that a recipe works on.

    Raises:
      UserError: none is given, or it is not to be had.
    """
    name = self.model_of(recipe)
    return locate(name, self.models.get(name))

  @property
  def made_source(self) -> str:
    """`made:NAME`, where the tuned model is one that is made if it cannot be fetched; else nothing."""
    sources = self.settings.model, *self.models.get(self.settings.model, Checkpoint()).sources
    return next((source for source in sources if source.startswith(MADE)), "")

  def plain(self, recipe: Recipe) -> bool:
    """Whether a recipe's prompts are plain text, not turns of a chat: a base model's always are."""
    return self.settings.template == "plain" or not recipe.instruction_tuned

  def of_run(self, name: str, seed: int, folder: str) -> Configuration:
    """That of one recipe's run, which the model that it does not work on is no part of."""
    setting = self.recipe(name).model_setting
    unused: dict[str, Any] = {other: "" for other in NEEDED if other != setting} | dict.fromkeys(TRIED, ())
    return self.replace(recipes=(name,), seeds=(seed,), model_dir=folder, **unused)

  def own(self, recipe: Recipe) -> Configuration:
    """With the settings of training that are the recipe's own; a learning rate that suits it where none is given."""
    changes = {name.lower(): _typed(name, value, declared()[name].default) for name, value in recipe.overrides.items()}
    if not changes.get("learning_rate", self.settings.learning_rate):
      changes["learning_rate"] = recipe.learning_rate(changes.get("optimizer", self.settings.optimizer))
    return self.replace(**changes) if changes else self

  def replace(self, **changes: Any) -> Configuration:
    """The same with some settings changed."""
    return dataclasses.replace(self, settings=dataclasses.replace(self.settings, **changes))

  def only(self, *splits: str) -> Configuration:
    """The same with the rows of these splits alone; a split of DATA stays the rows that it was."""
    files = self.settings.bare_files()
    return self.replace(data="", **{split: files.get(split, "") if split in splits else "" for split in SPLITS})

  def text(self) -> str:
    """A gin file that gives these settings and their recipes' switches again, on whatever machine."""
    fields = [field for field in dataclasses.fields(Settings) if field.name not in (*OF_MACHINE, *OF_COMMAND)]
    lines = [f"{field.name.upper()} = {getattr(self.settings, field.name)!r}" for field in fields]
    named = [(name, self.recipe(name)) for name in self.settings.recipes]
    begun = [(recipe.begins_with, self.recipe(recipe.begins_with)) for _, recipe in named if recipe.begins_with]
    for name, recipe in dict([*named, *begun]).items():
      values = {field.name: getattr(recipe, field.name) for field in dataclasses.fields(recipe)}
      lines += [f"{name}/Recipe.{key} = {value!r}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def configure(
  gin_files: Sequence[str], bindings: Sequence[str], flags: Mapping[str, str], search_paths: Sequence[str] = ()
) -> Configuration:
  """Shipped defaults, then gin files, then `--gin.` bindings, then plain flags; later ones win.

  Raises:
    UserError: a file that cannot be read, a name that is unknown, a value of the wrong kind.
  """
  if "EPOCHS" in flags and flags.get("STEPS", "0") != "0":
    raise UserError(f"--steps {flags['STEPS']} and --epochs {flags['EPOCHS']}: give one of them")
  flags = {"STEPS": "0", **flags} if "EPOCHS" in flags else flags  # over what a file says
  root = resources.shipped("gin")
  gin.clear_config()
  for path in (str(root.parent), *search_paths):
    gin.add_config_file_search_path(path)
  shipped = [*sorted(glob.glob(str(root / "recipes" / "*.gin"))), *sorted(glob.glob(str(root / "models" / "*.gin")))]
  _parse([str(root / "runs" / "rows.gin"), *shipped], [])
  known = declared()
  _parse([resources.find(file) for file in gin_files], [_binding(text, known) for text in bindings])
  _parse([], [f"{name} = {_flag_value(name, text, known[name].default)!r}" for name, text in flags.items()])
  _refuse_unknown(known)
  values = {name.lower(): _typed(name, _value(name), known[name].default) for name in known}
  for name in ("data", *SPLITS, "exemplars", "published", "try_instructions", "try_reasoning_instructions"):
    values[name] = resources.find(values[name])

  def again(more: Sequence[str]) -> Configuration:
    return configure([*gin_files, *more], bindings, flags, search_paths)

  recipes, models = _scoped("Recipe", _recipe), _scoped("Checkpoint", _checkpoint)
  return Configuration(Settings(**values), recipes, models, again=again)


def _parse(files: Sequence[str], bindings: Sequence[str]) -> None:
  logging.disable(logging.ERROR)  # gin logs what it raises
  try:
    gin.parse_config_files_and_bindings(list(files), list(bindings), finalize_config=False)
  except (OSError, ValueError, SyntaxError, AttributeError, ImportError, tokenize.TokenError) as e:
    reason = " ".join(str(e).split())
    raise UserError(f"the gin configuration cannot be read: {reason[:300]}") from None
  finally:
    logging.disable(logging.NOTSET)


def _binding(text: str, known: Mapping[str, Declared]) -> str:
  """`NAME=VALUE` as gin wants it: a value that does not parse is a string."""
  name, separator, value = text.partition("=")
  if not separator:
    raise UserError(f"--gin.{text}: write --gin.NAME=VALUE")
  name = name.strip()
  try:
    parse_value(value)
  except (SyntaxError, ValueError):
    value = repr(value)
  if "/" not in name and "." not in name and name not in known:
    raise UserError(f"--gin.{name}: {prompts.nearest(name, known)}")
  return f"{name} = {value}"


def _flag_value(name: str, text: str, default: Any) -> Any:
  try:
    if isinstance(default, tuple) or (name == "LABELS" and "," in text):
      texts, blanks = (text.replace("\\n", "\n"), " ") if name in TEMPLATES else (text, None)
      items = [item.strip(blanks) for item in texts.split(",") if item.strip(blanks)]
      return tuple(map(NUMBERS.get(name, str), items))
    if isinstance(default, bool):
      return text == "True"  # so `flags.parse` writes it
    if isinstance(default, (int, float)):
      value = type(default)(text)
      if not math.isfinite(value):
        raise ValueError
      return value
  except ValueError:
    raise UserError(f"--{name.lower()} {text}: give a {kind(default)}") from None
  return text.replace("\\n", "\n") if name in TEMPLATES else text


def _value(name: str) -> Any:
  value = gin.query_parameter(f"{name}/macro.value")
  try:
    return copy.deepcopy(value)  # this is how gin follows %OTHER
  except (TypeError, ValueError, RecursionError):
    raise UserError(f"the gin setting {name} = {value!r} leads to no value") from None


def _typed(name: str, value: Any, default: Any) -> Any:
  if isinstance(default, tuple) and isinstance(value, list):
    value = tuple(value)
  if isinstance(default, float) and type(value) is int:
    value = float(value)
  if name == "LABELS" and isinstance(value, (list, tuple)):
    return tuple(value)
  number = NUMBERS.get(name)
  if number is float and isinstance(value, tuple):
    value = tuple(float(item) if type(item) is int else item for item in value)
  if type(value) is not type(default) or (number and not all(type(item) is number for item in value)):
    raise UserError(f"{name} = {value!r}: give a {kind(default)}")
  return value


def _refuse_unknown(known: Mapping[str, Declared]) -> None:
  text = gin.config_str()
  for name in re.findall(r"^([A-Za-z_]\w*) = ", text, flags=re.MULTILINE):
    if name not in known and f"%{name}" not in text:
      raise UserError(f"the gin setting {name} is {prompts.nearest(name, known)}")


def _scoped(selector: str, make: Any) -> dict[str, Any]:
  """Every scope in which the configurable has bindings, called."""
  scopes = sorted(set(re.findall(rf"^(\w+)/{selector}\.", gin.config_str(), flags=re.MULTILINE)))
  made = {}
  for scope in scopes:
    with gin.config_scope(scope):
      made[scope] = make()
  return made
