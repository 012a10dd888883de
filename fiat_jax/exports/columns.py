"""Which columns x was made of: rows that a deployment answers are read as training read its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from fiat_jax import prompts
from fiat_jax.data import layouts
from fiat_jax.data.row import Row
from fiat_jax.data.rows import locate, read_rows
from fiat_jax.data.tables import records
from fiat_jax.errors import UserError
from fiat_jax.progress import say
from fiat_jax.reasoning import exemplars
from fiat_jax.reasoning.view import RECORDED
from fiat_jax.settings import Settings


def template(settings: Settings, others: Iterable[Row] = ()) -> str:
  """INPUT or, where that is empty, the template that gives x of the training rows.

  Without one, x would be made of whatever columns a row has. It is empty where there is none: rows differ in their
  columns, or are in a layout of another program.

  Args:
    others: rows that are looked at where those of training are gone.
  """
  if settings.input:
    return settings.input
  try:
    file = settings.bare_files().get("train", "")
    if file and layouts.is_known(next(records(locate(file)[0]))[1], settings.layout):
      return ""
    rows = read_rows(file, settings.layout) if file else others
  except UserError:  # they are gone
    rows = others
  shown = settings.exemplars not in ("", "train") and settings.beta != RECORDED and exemplars.load(settings)
  found = {tuple(row.fields) for row in itertools.chain(rows, shown.candidates if shown else ())}
  if len(found) == 1 and (made := _of_columns(*found)):
    return made
  if found:
    why = "rows differ in their columns" if len(found) > 1 else f"no template names the columns {', '.join(*found)}"
    say(f"warning: {why}: the deployment makes x of those that a row has; train with --input")
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
