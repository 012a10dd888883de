"""The README's table of tasks says what the registry says.

`PYTHONPATH=. python tests/preparation/test_readme.py` prints it.
"""

from __future__ import annotations

import pathlib

from fiat_jax.preparation.registry import SETS
from fiat_jax.preparation.sets import Set

README = pathlib.Path(__file__).parents[2] / "README.md"
HEADER = "| `fiat prepare` | rows: train / validation / test | languages | metric | recorded reasoning | licence |"


def table() -> str:
  return "\n".join([HEADER, "| --- | ---: | --- | --- | --- | --- |", *map(_row, SETS.values())])


def _row(known: Set) -> str:
  cells = [f"[{known.name}]({known.home})", _sizes(known), known.languages, known.metric, known.reasoning]
  return f"| {' | '.join([*cells, known.licence])} |"


def _sizes(known: Set) -> str:
  """Of the first view that has them all, or of whatever is published."""
  sizes = {part: sum(languages.values()) for part, languages in known.published.items()}
  if not sizes:
    return "not published"
  view = next(iter(sizes)).rpartition("/")[0]
  splits = ("train", "validation", "test")
  found = [sizes.get(f"{view}/{split}" if view else split) for split in splits]
  if not any(found):
    return f"{next(iter(sizes.values())):,} in all"
  return " / ".join("-" if size is None else f"{size:,}" for size in found)


def test_the_readmes_table_of_tasks_is_the_registrys():
  assert table() in README.read_text(encoding="utf-8")


if __name__ == "__main__":
  print(table())
