"""200 malformed files and flag lines, drawn from a generator: each one line on stderr, exit 2, and no run folder."""

from __future__ import annotations

import csv
import io
import json
import pathlib
import tempfile

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fiat_jax import cli, macros

WORDS = st.text("abcdefgh éß日本", min_size=1, max_size=12).map(str.strip).filter(bool)
ROWS = st.lists(st.tuples(WORDS, WORDS), min_size=2, max_size=5)
DELIMITERS = {"csv": ",", "tsv": "\t"}
FUZZ = {
  "max_examples": 100,
  "deadline": None,
  "derandomize": True,
  "database": None,
  "suppress_health_check": [HealthCheck.function_scoped_fixture],
}


def records(rows: list[tuple[str, str]]) -> list[dict]:
  return [{"id": str(n), "input": f"{x} {n}", "target": y} for n, (x, y) in enumerate(rows)]


def json_lines(rows: list[dict]) -> list[str]:
  return [json.dumps(row, ensure_ascii=False) for row in rows]


def table(rows: list[dict], kind: str) -> list[str]:
  out = io.StringIO()
  writer = csv.DictWriter(out, list(rows[0]), delimiter=DELIMITERS[kind], lineterminator="\n")
  writer.writeheader()
  writer.writerows(rows)
  return out.getvalue().splitlines()


@st.composite
def malformed_json_lines(draw) -> tuple[str, bytes, int | None]:
  """Name, bytes, and the line that the message must name (None: the file alone)."""
  rows = records(draw(ROWS))
  at = draw(st.integers(0, len(rows) - 1))
  lines = json_lines(rows)
  fault = draw(
    st.sampled_from(["cut", "list", "bytes", "number", "null", "no target", "blank", "twice", "word", "deep"])
  )
  if fault == "cut":
    lines[at] = lines[at][: draw(st.integers(1, len(lines[at]) - 1))]
  elif fault in ("number", "null", "blank"):
    value = {"number": draw(st.integers() | st.floats(allow_nan=False) | st.booleans()), "null": None, "blank": " "}
    lines[at] = json.dumps(rows[at] | {"target": value[fault]})
  elif fault == "no target":
    lines[at] = json.dumps({key: value for key, value in rows[at].items() if key != "target"})
  elif fault == "twice":
    lines.append(lines[at])
    at = len(lines) - 1
  elif fault == "bytes":
    pass
  else:
    lines[at] = {"list": json.dumps(list(rows[at].values())), "word": "row", "deep": "[" * 100_000}[fault]
  data = [line.encode() for line in lines]
  if fault == "bytes":
    data[at] = draw(st.sampled_from([b"\xff", b"\xc3(", b"\x80 "])) + data[at]
  return "rows.jsonl", b"\n".join(data), at + 1


@st.composite
def malformed_table(draw) -> tuple[str, bytes, int | None]:
  kind = draw(st.sampled_from(sorted(DELIMITERS)))
  rows = records(draw(ROWS))
  at = draw(st.integers(0, len(rows) - 1))
  lines = table(rows, kind)
  fault = draw(
    st.sampled_from(["more", "fewer", "header twice", "no target", "blank", "bytes", "header alone", "quote"])
  )
  where: int | None = at + 2  # the header is line 1
  if fault == "more":
    lines[at + 1] += DELIMITERS[kind] + "more"
  elif fault == "fewer":
    lines[at + 1] = lines[at + 1].split(DELIMITERS[kind])[0]
  elif fault == "blank":
    lines[at + 1] = DELIMITERS[kind].join([str(at), "input", " "])
  elif fault == "quote":
    lines[at + 1], where = f'{at}{DELIMITERS[kind]}"never closed', None
  elif fault in ("header twice", "no target", "header alone"):
    header = {"header twice": ["id", "input", "input"], "no target": ["id", "input", "answer"]}
    lines[0] = DELIMITERS[kind].join(header.get(fault, ["id", "input", "target"]))
    lines, where = (lines[:1] if fault == "header alone" else lines), None
  data = "\n".join(lines).encode()
  if fault == "bytes":
    data, where = data + b"\n\xff\xfe", None
  return f"rows.{kind}", data, where


@st.composite
def malformed_whole(draw) -> tuple[str, bytes, int | None]:
  """A file that is nothing of what its name says."""
  name = draw(st.sampled_from(["rows.jsonl", "rows.json", "rows.csv", "rows.tsv", "rows.parquet", "rows.xlsx", "rows"]))
  data = draw(st.sampled_from([b"", b"\n\n", b"PAR1", b"\x00" * 64, b"\x89PNG\r\n\x1a\n\x00\x01", b"PK\x03\x04\x14"]))
  return name, data, None


@st.composite
def malformed_flags(draw) -> list[str]:
  """Words after good ones; the first names what is wrong."""
  known = macros.declared()
  numbers = sorted(name.lower() for name, setting in known.items() if type(setting.default) in (int, float))
  kind = draw(st.sampled_from(["unknown", "number", "no value", "gin", "template", "choice", "stray", "absent"]))
  if kind == "unknown":
    name = draw(
      st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12).filter(lambda n: n.upper() not in known)
    )
    return ["--" + (name if name not in ("quiet", "gin_file", "gin_search_paths") else "x" + name), "1"]
  if kind == "number":
    junk = draw(st.sampled_from(["many", "1,5", "--", "nan", "1e", "0x", "½", "one two"]))
    return [f"--{draw(st.sampled_from(numbers))}={junk}"]
  if kind == "no value":
    return ["--" + draw(st.sampled_from(sorted(name.lower() for name in known)))]
  if kind == "gin":
    return [draw(st.sampled_from(["--gin.TRIAN=x", "--gin.BATCH=many", "--gin.=1", "--gin.BATCH", "--gin.no.such=1"]))]
  if kind == "template":
    flag = draw(st.sampled_from(["--input", "--instruction"]))
    return [flag, draw(st.sampled_from(["{", "}", "{x", "{0}", "{nowhere}", "{x!r}", "{x} {nothing}", "{}"]))]
  if kind == "choice":
    flag = draw(st.sampled_from(["--recipes", "--metrics", "--model", "--dtype", "--schedule", "--answer"]))
    return [flag, draw(st.sampled_from(["(", "no_such", "fait", "(?P<answer>"]))]
  if kind == "stray":
    return [draw(st.sampled_from(["stray", "-x", "rows.jsonl"]))]
  return [
    draw(st.sampled_from(["--gin_file", "--train", "--validation"])),
    draw(st.sampled_from(["absent.gin", "gone"])),
  ]


def refusal(capsys: pytest.CaptureFixture[str], folder: pathlib.Path, words: list[str]) -> str:
  capsys.readouterr()
  assert cli.main(words) == 2, words
  err = capsys.readouterr().err
  assert err.startswith("error: ") or "\nerror: " in err, err
  assert err.count("error: ") == 1 and err.splitlines()[-1].startswith("error: ") and "Traceback" not in err, err
  assert not (folder / "run").exists(), "a run folder was left half-made"
  return err


@seed(3)
@settings(**FUZZ)
@given(
  faulty=malformed_json_lines() | malformed_table() | malformed_whole(), verb=st.sampled_from(["validate", "train"])
)
def test_malformed_file_is_named_with_its_line(capsys, tiny_checkpoint, faulty, verb):
  name, data, line = faulty
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    (folder / name).write_bytes(data)
    (folder / "good.jsonl").write_text("\n".join(json_lines(records([("a", "b"), ("c", "d")]))))
    words = ["--train", str(folder / name), "--validation", str(folder / "good.jsonl")]
    words += ["--model", str(tiny_checkpoint), "--model_dir", str(folder / "run"), "--recipes", "fine_tuning"]
    message = refusal(capsys, folder, [verb, *words])
  assert f"{name}:" in message and (line is None or f"{name}:{line}: " in message), message


@seed(3)
@settings(**FUZZ)
@given(words=malformed_flags())
def test_malformed_flag_line_is_refused(capsys, tiny_checkpoint, words):
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    good = folder / "good.jsonl"
    good.write_text("\n".join(json_lines(records([("a", "b"), ("c", "d")]))))
    base = ["--train", str(good), "--validation", str(good), "--model", str(tiny_checkpoint)]
    message = refusal(capsys, folder, ["train", *base, "--model_dir", str(folder / "run"), *words])
  told = words[0].lstrip("-").removeprefix("gin.").split("=")[0].split(".")[0]
  named = told in message or told.upper() in message or words[-1] in message
  assert named or "template" in message or "instruction" in message or "recipe" in message, (words, message)
