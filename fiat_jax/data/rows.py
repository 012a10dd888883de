"""A user's labelled rows: reading JSONL and checking it. Every fault names its file and line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from fiat_jax import prompts
from fiat_jax.errors import UserError

HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")  # JSON may spell half a character, which no tokenizer takes
SLICE = re.compile(r"^(?P<path>.*)\[(?P<start>\d*):(?P<stop>\d*)\]$")


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
  """One checked row. `line` counts from 1; `fields` are the texts that templates may name."""

  id: str
  lang: str
  group: str
  x: str
  targets: tuple[str, ...]
  reasoning: str | None
  labels: tuple[str, ...]
  line: int
  fields: dict[str, str] = dataclasses.field(repr=False)


def locate(path: str) -> tuple[pathlib.Path, slice]:
  """The file that `path` names and the lines wanted of it: `rows.jsonl[:512]` is the first 512 rows."""
  match = SLICE.match(path)
  if not match:
    return pathlib.Path(path), slice(None)
  bounds = [int(n) if n else None for n in (match["start"], match["stop"])]
  return pathlib.Path(match["path"]), slice(*bounds)


def read_rows(path: str, layout: Layout, *, labelled: bool = True) -> list[Row]:
  """All rows of a JSONL file, or of a slice of it (`rows.jsonl[:512]`); not `labelled`, they need no target.

  Raises:
    UserError: the file is missing, empty or broken, a field is absent or no text, an id stands twice.
  """
  file, wanted = locate(path)
  rows: list[Row] = []
  seen: dict[str, int] = {}
  for line, record in list(_records(file))[wanted]:
    row = _row(record, layout, file, line, labelled)
    if row.id in seen:
      where = f"stands on line {seen[row.id]} already"
      if record.get(layout.id):
        raise UserError(f"the id {row.id!r} {where}: ids must differ", file, line)
      raise UserError(f"the same row {where}: remove one, or tell them apart by a field {layout.id!r}", file, line)
    seen[row.id] = line
    rows.append(row)
  if not rows:
    raise UserError("there are no rows in it: one JSON object a line is expected", path)
  return rows


def digest(path: str) -> str:
  """SHA-256 of the file's bytes and of the slice asked for."""
  file, wanted = locate(path)
  return hashlib.sha256(file.read_bytes() + f"[{wanted.start}:{wanted.stop}]".encode()).hexdigest()


def _records(file: pathlib.Path) -> Iterator[tuple[int, dict[str, Any]]]:
  try:
    handle = open(file, "rb")  # noqa: SIM115  closed by the `with` below
  except OSError as e:
    raise UserError(f"cannot be read ({os.strerror(e.errno or 0)}): give the path of a JSONL file", file) from None
  with handle:
    for number, raw in enumerate(handle, 1):
      try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
      except UnicodeDecodeError as e:
        raise UserError(
          f"is not UTF-8 text (byte {e.start} of the line): save the file as UTF-8", file, number
        ) from None
      if not text.strip():
        continue
      try:
        record = json.loads(text)
        if HALF_PAIR.search(text):
          json.dumps(record, ensure_ascii=False).encode()
      except UnicodeEncodeError:
        raise UserError(
          "holds half a surrogate pair (\\ud800 to \\udfff): write whole characters", file, number
        ) from None
      except (ValueError, RecursionError) as e:
        reason = getattr(e, "msg", "a number too long") if isinstance(e, ValueError) else "nested too deeply"
        raise UserError(f"is no JSON ({reason}): one whole object a line is expected", file, number) from None
      if not isinstance(record, dict):
        raise UserError(f"holds a JSON {_kind(record)}, not an object with named fields", file, number)
      yield number, record


def _row(record: dict[str, Any], layout: Layout, file: pathlib.Path, line: int, labelled: bool) -> Row:
  def text(name: str, default: str | None = None) -> str:
    value = record.get(name)
    if value is None and default is not None:  # where a table had no value, some programs write null
      return default
    if value is None and name not in record:
      raise UserError(f"the row has no field {name!r} ({prompts.nearest(name, record)})", file, line)
    if not isinstance(value, str):
      raise UserError(f"the field {name!r} holds a {_kind(value)}, not text: put it in quotes", file, line)
    return value

  targets = record.get(layout.target)
  if targets in (None, "") and not labelled:
    targets = ()
  else:
    targets = tuple(targets) if isinstance(targets, list) else (text(layout.target),)
  if (labelled and not targets) or not all(isinstance(t, str) and t.strip() for t in targets):
    raise UserError(f"the target {layout.target!r} is empty or no text: give a text, or a list of texts", file, line)
  fields, x = _input(record, layout, text)
  identity = text(layout.id, "") or hashlib.sha256(repr((x, targets)).encode()).hexdigest()[:16]
  return Row(
    id=identity,
    lang=text(layout.lang, "") or "und",
    group=text(layout.group, "") or identity,
    x=x,
    targets=targets,
    reasoning=text(layout.reasoning, "").strip() or None,
    labels=_labels(record, layout, targets, file, line),
    line=line,
    fields=fields,
  )


def _input(record: dict[str, Any], layout: Layout, text: Any) -> tuple[dict[str, str], str]:
  reserved = {layout.target, layout.lang, layout.group, layout.id, layout.reasoning, layout.labels}
  free = [name for name in record if name not in reserved]
  if layout.input:
    template = prompts.parse(layout.input)
    fields = {name: text(name) for name in prompts.fields(template)}
    return fields, prompts.fill(template, fields)
  if "input" in record or not free:
    return {"input": text("input")}, text("input")
  fields = {name: text(name) for name in free}
  return fields, "\n".join(f"{name}: {value}" for name, value in fields.items())


def _labels(
  record: dict[str, Any], layout: Layout, targets: Sequence[str], file: pathlib.Path, line: int
) -> tuple[str, ...]:
  if not layout.labels:
    return ()
  labels = record.get(layout.labels) if isinstance(layout.labels, str) else layout.labels
  if not isinstance(labels, (list, tuple)) or not labels or not all(isinstance(label, str) for label in labels):
    raise UserError(f"the labels {layout.labels!r} are no list of texts in this row", file, line)
  if targets and not set(targets) & set(labels):
    raise UserError(f"the target {targets[0]!r} is none of the row's labels {list(labels)}", file, line)
  return tuple(dict.fromkeys(labels))


def _kind(value: Any) -> str:
  names = {list: "list", dict: "object", bool: "truth value", int: "number", float: "number", type(None): "null"}
  return names.get(type(value), type(value).__name__)
