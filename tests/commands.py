"""The command line run on a folder of rows, for the tests of its verbs."""

import contextlib
import io
import json
import pathlib
from collections.abc import Callable

import pytest

from fiat_jax import cli
from fiat_jax.report import page

SPLITS = ("train", "validation", "test")


def write_questions(folder: pathlib.Path) -> pathlib.Path:
  """Eight training rows, two validation and four test rows about sums, all with one target; returns the folder."""
  for split, count in zip(SPLITS, (8, 2, 4), strict=True):
    lines = [{"id": f"{split}{n}", "input": f"what is {n} + 1?", "target": "none"} for n in range(count)]
    (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
  return folder


def runner(rows: pathlib.Path, *settings: str) -> Callable[..., str]:
  """`run(verb, folder, *words)`: runs a verb that must succeed on `rows`; returns what it printed."""

  def run(verb: str, folder: pathlib.Path, *words: str, splits: tuple[str, ...] = SPLITS) -> str:
    files = [word for split in splits for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
      code = cli.main([verb, *files, *settings, "--model_dir", str(folder), *words])
    assert code == 0, err.getvalue()
    return out.getvalue()

  return run


def pages(monkeypatch: pytest.MonkeyPatch, folder: pathlib.Path) -> list[dict]:
  """Filled with what `results.json` holds each time that the page of a comparison in this folder is written."""
  seen, write = [], page.write
  keep = lambda at: seen.append(results(at)) if at == folder else None  # noqa: E731
  monkeypatch.setattr(page, "write", lambda at: (write(at), keep(at)))
  return seen


def results(folder: pathlib.Path):
  return json.loads((folder / "results.json").read_text())


def records(file: pathlib.Path) -> list[dict]:
  """The lines of a JSONL file."""
  return [json.loads(line) for line in file.read_text().splitlines()]


def answers_without_targets(rows: pathlib.Path, run: pathlib.Path, scratch: pathlib.Path) -> list[dict]:
  """What `fiat predict` writes for the test rows, their targets, choices and languages left out."""
  bare, output = scratch / "bare.jsonl", scratch / "answers.jsonl"
  lines = [{name: row[name] for name in ("id", "input", "reasoning")} for row in records(rows / "test.jsonl")]
  bare.write_text("\n".join(map(json.dumps, lines)))
  with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as err:
    code = cli.main(["predict", "--model_dir", str(run), "--test", str(bare), "--output", str(output)])
  assert code == 0, err.getvalue()
  return records(output)
