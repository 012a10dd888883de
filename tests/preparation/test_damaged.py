"""Whatever is wrong with a set's files, `fiat prepare` says so in one line, and nothing else happens."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable

import pytest

from fiat_jax.errors import UserError
from fiat_jax.preparation import prepare
from fiat_jax.preparation.registry import SETS

VALUES = re.compile(rb'(?<=: )(?:"(?:[^"\\]|\\.)*"|-?\d+|true|false|\[|\{)|(?<=,)[^,\n"]+(?=,)')


def _valued(value: bytes) -> Callable[[bytes, random.Random], bytes]:
  """One of the values, drawn, becomes another."""

  def damage(content: bytes, draw: random.Random) -> bytes:
    found = [match for match in VALUES.finditer(content) if match[0] not in (b"[", b"{")]
    if not found:
      return content
    at = draw.choice(found)
    return content[: at.start()] + value + content[at.end() :]

  return damage


def _unnamed(content: bytes, draw: random.Random) -> bytes:
  """One of the fields, drawn, is called otherwise."""
  names = list(re.finditer(rb'"[^"\\]+"(?=\s*:)', content)) or list(re.finditer(rb"\w+", content))
  at = draw.choice(names)
  return content[: at.start()] + b'"other"' + content[at.end() :]


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
  "empty": lambda content, draw: b"",
  "cut off": lambda content, draw: content[: draw.randrange(1, len(content))],
  "no text": lambda content, draw: content[:40] + bytes(range(128, 256)) + content[40:],
  "UTF-16": lambda content, draw: content.decode().encode("utf-16"),
  "NULs": lambda content, draw: content[:60] + b"\0\0" + content[60:],
  "a web page": lambda content, draw: b"<html><body>Sign in</body></html>\n",
  "nested deeply": lambda content, draw: b"[" * 100_000,
  "an enormous field": lambda content, draw: content.replace(b" ", b" " + b"x" * 200_000, 1),
  "a list of numbers": lambda content, draw: b"[1, 2, 3]\n",
  "a null": _valued(b"null"),
  "a number": _valued(b"7"),
  "a list": _valued(b"[]"),
  "an object": _valued(b"{}"),
  "an empty text": _valued(b'""'),
  "another field": _unnamed,
}


QUICK = ("mmlu", "drop", "crass", "humaneval")  # one of each kind of file
MARKED = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in SETS]


@pytest.mark.parametrize("name", MARKED)
def test_a_damaged_file_is_told_in_one_line(name, tmp_path, capsys):
  whole, draw, told = prepare.sample_folder(name), random.Random(name), 0
  for file in sorted(path for path in whole.rglob("*") if path.is_file()):
    for damage, change in DAMAGES.items():
      for turn in range(3 if damage in ("cut off", "a null", "a number", "a list", "an object") else 1):
        given = tmp_path / "given"
        shutil.copytree(whole, given)
        (given / file.relative_to(whole)).write_bytes(change(file.read_bytes(), draw))
        try:
          prepare.prepare(SETS[name], tmp_path / "rows", given, sample=True)
        except UserError as e:
          told += 1
          assert "\n" not in str(e) and len(str(e)) < 1000, f"{damage}: {e}"
        except Exception as e:
          raise AssertionError(f"{file.relative_to(whole)}, {damage} ({turn}): {type(e).__name__}: {e}") from e
        for part in (tmp_path / "rows").rglob("*.jsonl"):
          assert all(isinstance(json.loads(line), dict) for line in part.open())
        shutil.rmtree(given)
  assert told > 5
