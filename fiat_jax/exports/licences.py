"""What is known of the licences of what an export was made from: the base's own, and those of published sets."""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterable

from fiat_jax.checkpoints.gguf_header import read_header

PREPARED = re.compile(r"prepared:(\w+)")
NAMED = re.compile(r"^license(?:_name)?: *['\"]?([\w .+-]+?)['\"]? *$", re.MULTILINE)


def of_base(path: str) -> str:
  """As the model's GGUF file, or the card in its folder, names it; empty where neither does."""
  place = pathlib.Path(path).expanduser()
  if place.suffix.lower() == ".gguf" and place.is_file():
    return str(read_header(place).metadata.get("general.license", ""))
  card = place / "README.md"
  front = card.read_text(encoding="utf-8", errors="replace").split("\n---", 1)[0] if card.is_file() else ""
  found = NAMED.search(front) if front.startswith("---") else None
  return found[1] if found else ""


def of_rows(files: Iterable[str]) -> list[str]:
  """`NAME: LICENCE` of each published set that rows were made from."""
  from fiat_jax.preparation.registry import SETS

  names = dict.fromkeys(match[1] for file in files for match in PREPARED.finditer(file))
  return [f"{name}: {SETS[name].licence}" for name in names if name in SETS]
