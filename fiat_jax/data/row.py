"""One labelled row, checked: which columns it is made of, and what of it templates may name."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax import prompts
from fiat_jax.data import languages
from fiat_jax.data.tables import kind
from fiat_jax.errors import UserError

INDEX = re.compile(r"__index_level_\d+__")  # what pandas calls a table's index in Parquet
SURROGATE = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
  """Which columns hold what. An empty `input` means the column `input` or, without one, `column: value` lines.

  `labels` names a column that lists a row's choices, or is the tuple of choices of every row.
  """

  target: str = "target"
  lang: str = "lang"
  group: str = "group"
  id: str = "id"
  reasoning: str = "reasoning"
  input: str = ""
  labels: str | tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
  """One checked row. `line` counts from 1; `fields` are the texts that templates may name.

  `reasoning` is None where the row lacks the column, and empty where nothing stands in it.
  """

  id: str
  lang: str
  group: str
  x: str
  targets: tuple[str, ...]
  reasoning: str | None
  labels: tuple[str, ...]
  line: int
  fields: dict[str, str] = dataclasses.field(repr=False)


def row_of(record: dict[str, Any], layout: Layout, file: pathlib.Path, line: int, labelled: bool) -> Row:
  """A record of a file as a row. Raises UserError where it is none."""

  def text(name: str, default: str | None = None) -> str:
    value = record.get(name)
    if isinstance(value, str):
      if not value.isascii() and SURROGATE.search(value):
        raise UserError(f"the field {name!r} holds half a surrogate pair, which is no text", file, line)
      return value
    if value is None and default is not None:  # where a table had no value, some programs write null
      return default
    if value is None and name not in record:
      raise UserError(f"the row has no field {name!r} ({prompts.nearest(name, record)})", file, line)
    if value is None:
      raise UserError(f"the field {name!r} holds a null or is an empty cell: fill it, or remove the row", file, line)
    mending = "leave it out, or name the columns with --input" if isinstance(value, bytes) else "put it in quotes"
    raise UserError(f"the field {name!r} holds a {kind(value)}, not text: {mending}", file, line)

  targets = record.get(layout.target)
  if targets in (None, "") and not labelled:
    targets = ()
  else:
    targets = tuple(targets) if isinstance(targets, list) else (text(layout.target),)
  if (labelled and not targets) or not all(isinstance(t, str) and t.strip() for t in targets):
    raise UserError(f"the target {layout.target!r} is empty or no text: give a text, or a list of texts", file, line)
  fields = {name: text(name) for name in _input_columns(record, layout)}
  x = compose(layout, fields)
  identity = text(layout.id, "") or hashlib.sha256(repr((x, targets)).encode()).hexdigest()[:16]
  return Row(
    id=identity,
    lang=languages.code(text(layout.lang, "")) or "und",
    group=text(layout.group, "") or identity,
    x=x,
    targets=targets,
    reasoning=text(layout.reasoning, "").strip() if layout.reasoning in record else None,
    labels=_labels(record, layout, targets, file, line),
    line=line,
    fields=fields,
  )


def compose(layout: Layout, fields: Mapping[str, str]) -> str:
  """x, made of the texts of its columns."""
  if layout.input:
    return prompts.fill(_template(layout.input), fields)
  return fields["input"] if "input" in fields else "\n".join(f"{name}: {value}" for name, value in fields.items())


def _input_columns(record: Mapping[str, Any], layout: Layout) -> Sequence[str]:
  """The columns that x is made of; without a template and the column `input`, all that nothing else is made of."""
  if layout.input:
    return prompts.fields(_template(layout.input))
  if "input" in record:
    return ("input",)
  reserved = {layout.target, layout.lang, layout.group, layout.id, layout.reasoning, layout.labels}
  named = [name for name in record if name not in reserved and record[name] is not None]
  return [name for name in named if not INDEX.fullmatch(name)] or ("input",)


_template = functools.lru_cache(maxsize=16)(prompts.parse)


def _labels(
  record: dict[str, Any], layout: Layout, targets: Sequence[str], file: pathlib.Path, line: int
) -> tuple[str, ...]:
  if not layout.labels:
    return ()
  labels = record.get(layout.labels) if isinstance(layout.labels, str) else layout.labels
  whole = isinstance(labels, (list, tuple)) and all(
    isinstance(label, str) and label.strip() and not SURROGATE.search(label) for label in labels
  )
  if isinstance(layout.labels, str) and layout.labels not in record:
    message = f"--labels {layout.labels!r}: the row has no such column: name the one with its choices, or give them"
    raise UserError(message, file, line)
  if not labels or not whole:
    message = f"the labels {layout.labels!r} are no list of texts in this row: give at least one, and no empty one"
    raise UserError(message, file, line)
  if targets and not set(targets) & set(labels):
    raise UserError(f"the target {targets[0]!r} is none of the row's labels {list(labels)}", file, line)
  return tuple(dict.fromkeys(labels))
