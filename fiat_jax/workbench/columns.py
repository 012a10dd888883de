"""Which columns x was made of: rows that a tuned model answers are read as training read its own."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterable, Mapping, Sequence

from fiat_jax import prompts, run_folder
from fiat_jax.configuration import Configuration
from fiat_jax.data import layouts
from fiat_jax.data.row import Row
from fiat_jax.data.rows import digest, locate, read_rows
from fiat_jax.data.tables import records
from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.settings import Settings

HEAD = 100  # rows of each split whose columns are compared


def as_trained(configuration: Configuration, split: str = "") -> Configuration:
  """The same with x made, of whatever rows are answered, of the columns that it was made of in training.

  Where the rows of `split` are made of them anyhow, nothing is said of it: they are tokenised already, as they were.

  Raises:
    UserError: as `check_unchanged`, where something was trained.
  """
  settings = configuration.settings
  if settings.by_loss:
    return configuration
  if all(configuration.recipe(name).trains for name in settings.recipes):
    check_unchanged(settings)
  made = template(settings)
  return configuration if split and _is_made_so(settings, split, made) else configuration.replace(input=made)


def _is_made_so(settings: Settings, split: str, made: str) -> bool:
  """Whether x of each row of a split is made of the columns that the template `made` names, without being told."""
  try:
    found = {tuple(row.fields) for row in read_rows(settings.bare_files()[split], settings.layout)}
  except UserError:  # whoever reads them next says why
    return False
  return not settings.input and [_of_columns(names) for names in found] == [made]


def template(settings: Settings, others: Iterable[Row] = (), beside: Iterable[Row] = ()) -> str:
  """INPUT or, where that is empty, the template that gives x of the training rows.

  Without one, x would be made of whatever columns a row has. It is empty where there is none: rows differ in their
  columns, or are in a layout of another program.

  Args:
    others: rows that are looked at where those of training are gone.
    beside: rows that are read as they are, such as the big model's exemplars.
  """
  if settings.input:
    return settings.input
  try:
    file = settings.bare_files().get("train", "")
    if file and layouts.is_known(next(records(locate(file)[0]))[1], settings.layout):
      return ""
    rows = read_rows(file, settings.layout) if file else others
  except UserError as e:  # they are gone
    rows = others = list(others)
    if not others:
      say(f"warning: {e}: x is made of whatever columns a row has, not of those that were trained on; or give --input")
  found = {tuple(row.fields) for row in itertools.chain(rows, beside)}
  if len(found) == 1 and (made := _of_columns(*found)):
    return made
  if found:
    why = "rows differ in their columns" if len(found) > 1 else f"no template names the columns {', '.join(*found)}"
    say(f"warning: {why}: x is made of those that a row has; train with --input")
  return ""


def check_unchanged(settings: Settings) -> None:
  """Refuses training rows from which x cannot be told any more: there is no INPUT, and they are not what they were.

  Rows that are gone are no fault, nor are those in a layout of another program, nor those with a store's
  reasoning, which their digest goes by too.

  Raises:
    UserError: their digest is not the one in the run folder.
  """
  trained = run_folder.recorded(pathlib.Path(settings.model_dir)).get("train")
  path = settings.bare_files().get("train", "")
  if settings.input or settings.store or not trained or not path:
    return
  try:
    same = digest(path) == trained or layouts.is_known(next(records(locate(path)[0]))[1], settings.layout)
  except UserError:
    return
  if not same:
    raise UserError(
      f"the rows changed since {settings.model_dir} was trained on them, and x may have been made of other columns: "
      "give the file as it was, or the columns with --input",
      settings.file("train"),
    )


def differing(rows: Mapping[str, Sequence[Row]]) -> str:
  """Which split's x is made of other columns than that of the first, in words; empty where none is.

  Columns are looked for in the first rows of each split: a row need not have them all.
  """
  made = {split: dict.fromkeys(name for row in found[:HEAD] for name in row.fields) for split, found in rows.items()}
  (first, columns), *others = made.items() or [("", {})]
  for split, found in others:
    if found.keys() != columns.keys():
      return f"x of {split} is made of {', '.join(found)}, that of {first} of {', '.join(columns)}: name the columns"
  return ""


def _of_columns(names: tuple[str, ...]) -> str:
  """What `data.row.compose` does with these columns; empty where a template cannot name them."""
  if names == ("input",):
    return "{input}"
  made = "\n".join(f"{name.replace('{', '{{').replace('}', '}}')}: {{{name}}}" for name in names)
  try:
    return made if tuple(prompts.fields(prompts.parse(made))) == names else ""
  except UserError:
    return ""
