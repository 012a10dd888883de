"""What a user can get wrong ends in one line on stderr and exit code 2, and leaves nothing behind."""

import io
import json
import os
import pathlib
import subprocess
import sys

import pytest
import t5 as small

from fiat_jax import cli
from fiat_jax.configuration import configure
from fiat_jax.verbs.predict import check_output

pytestmark = pytest.mark.compiled_quickly

GOOD = {"id": "a", "input": "What is 1 + 1?", "target": "2", "reasoning": "Count on. So the answer is 2."}


@pytest.fixture
def files(tmp_path):
  """Writes rows (dicts, or raw text) to a file of the test's folder and returns its path."""

  def write(name: str, *rows: dict | str) -> str:
    path = tmp_path / name
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return str(path)

  return write


@pytest.fixture
def refused(capsys, tmp_path, monkeypatch):
  """Runs a command that must be refused; returns the one line that says why."""
  monkeypatch.chdir(tmp_path)

  def run(*words: str) -> str:
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert cli.main(list(words)) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and captured.err.splitlines()[-1] == errors[0], captured.err
    assert "Traceback" not in captured.err
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before, "something was left behind"
    return errors[0]

  return run


ROWS = {
  "broken": ('{"id": "b", "inp', ":2: is no JSON"),
  "list": ("[1, 2]", ":2: holds a JSON list"),
  "number": ({**GOOD, "id": "b", "input": 7}, ":2: the field 'input' holds a number"),
  "twice": (GOOD, ":2: the id 'a' stands on line 1 already"),
  "no target": ({"id": "b", "input": "q"}, ":2: the row has no field 'target'"),
  "empty target": ({**GOOD, "id": "b", "target": " "}, ":2: the target 'target' is empty"),
}


@pytest.mark.parametrize("fault", ROWS)
@pytest.mark.parametrize("verb", ["validate", "train"])
def test_faulty_row_is_named_by_file_and_line(verb, fault, files, refused):
  row, message = ROWS[fault]
  train = files("train.jsonl", GOOD, row)
  validation = files("validation.jsonl", GOOD)
  assert f"train.jsonl{message}" in refused(verb, "--train", train, "--validation", validation)


def test_absent_and_empty_files(files, refused):
  assert "absent.jsonl: cannot be read" in refused("validate", "--train", "absent.jsonl")
  assert "there are no rows in it" in refused("validate", "--train", files("empty.jsonl"))


def test_field_that_no_row_has(files, refused):
  message = refused("validate", "--train", files("train.jsonl", GOOD), "--input", "{inputs}")
  assert "train.jsonl:1: the row has no field 'inputs'" in message and "did you mean input?" in message


FLAGS = {
  ("--trian", "x"): "did you mean train?",
  ("--gin.TRIAN=x",): "did you mean TRAIN?",
  ("--train",): "needs a value",
  ("stray",): "belongs to no flag",
  ("--batch", "many"): "--batch many: give a whole number",
  ("--batch", "0"): "--batch 0: give 1 or more",
  ("--recipes", "fait"): "did you mean fiat?",
  ("--metrics", "f1"): "f1_squad",
  ("--model", "no_such_model"): "the model 'no_such_model' is",
  ("--lora_rank", "0"): "a LoRA rank of 0",
  ("--lora_targets", "attention/(query"): "no regular expression",
  ("--lora_targets", "nothing"): "match no projection; there are layers/attention/key",
  ("--instruction", "no place"): "does not hold {x}",
  ("--instruction", "{x} {y}"): "names {y}",
  ("--gin_file", "absent.gin"): "absent.gin",
  ("--lora_scaling", "root"): "the LoRA scaling 'root' is unknown: give one of rank, root_rank",
  ("--optimizer", "adam"): "the optimizer 'adam' is unknown: give one of adamw, adafactor",
  ("--dtype", "float16"): "the dtype 'float16' is not supported: give one of float32, bfloat16",
  ("--schedule", "linear"): "the schedule 'linear'",
  ("--target_length", "1"): "a target longer than --target_length 1; the longest has 2 tokens",
  ("--target_length", "2000"): "more than the 1024 that the model has places for",
  ("--source_length", "5"): "a prompt longer than --source_length 5",
  ("--reasoning", "thoughts"): "no row has the column 'thoughts' that --reasoning names",
  ("--labels", "choices"): "the row has no such column",
  ("--labels", "yes,no"): "is none of the row's labels",
  ("--labels", "target"): "no list of texts",
  ("--template", "alpaca"): "--template 'alpaca': give chat or plain",
  ("--show", "-1"): "--show -1: give 0 or more",
  ("--seeds", "0,1,0"): "--seeds 0,1,0: one stands there twice",
  ("--beams", "0"): "--beams 0: give 1 or more",
  ("--beams", "4", "--labels", "choices"): "--beams 4 with --labels: labels are scored, and nothing is generated",
  ("--mesh", "fsdp=2"): "--mesh fsdp=2 makes 2 of 1 devices: the sizes have to multiply to 1",
  ("--mesh", "model=1"): "write sizes of data, fsdp, tensor",
  ("--model_dir", "gs://b/run"): "--model_dir gs://b/run: runs and stores lie in folders; mount the bucket",
  ("--remat", "some"): "--remat 'some': give one of none, dots, full",
  ("--attention", "flash"): "--attention 'flash': give one of auto, plain, fused",
  ("--attention", "fused"): "there is a kernel for TPUs and for GPUs alone, and this is a cpu; give auto or plain",
  ("--weights", "int4"): "--weights 'int4': give int8 or nf4, or leave it out",
  ("--weights", "int8", "--recipes", "full_fine_tuning"): "trains all weights, and what is quantized is frozen",
}


LONG = {("--target_length", "1")}  # found by the rows themselves, after they are tokenised
MARKED = [pytest.param(words, marks=pytest.mark.slow) if words in LONG else words for words in FLAGS]


@pytest.mark.parametrize("words", MARKED, ids=" ".join)
def test_wrong_flag_or_value(words, files, refused, tiny_checkpoint):
  rows = files("train.jsonl", GOOD)
  base = ["--model", str(tiny_checkpoint), "--train", rows, "--validation", rows, "--model_dir", "run"]
  assert FLAGS[words] in refused("train", *base, *words)


def test_all_that_is_wrong_with_a_comparisons_settings_is_said_at_once(files, refused):
  rows = files("train.jsonl", GOOD)
  words = ["--data", rows, "--model_dir", "run", "--metrics", "f1", "--answer", "(", "--budget", "soon"]
  message = refused("compare", *words, "--optimizer", "adam")
  for told in ("f1_squad", "--answer", "--budget 'soon': give minutes", "the optimizer 'adam' is unknown"):
    assert told in message


def test_a_t5_in_float16_is_refused_with_the_reason(files, refused, tmp_path):
  small.write_model(tmp_path / "t5")
  rows = files("train.jsonl", GOOD)
  words = ["--model", "t5", "--train", rows, "--validation", rows, "--model_dir", "run", "--dtype", "float16"]
  assert "t5: T5's activations overflow in float16: give --dtype bfloat16 or float32" in refused("train", *words)


@pytest.mark.parametrize("verb", ["train", "evaluate", "compare"])
def test_model_without_a_chat_template(verb, files, refused, tiny_checkpoint, tmp_path):
  base = tmp_path / "base"
  base.mkdir()
  for file in tiny_checkpoint.iterdir():
    if file.name != "chat_template.jinja":
      (base / file.name).symlink_to(file)
  rows = files("train.jsonl", GOOD)
  words = [word for split in ("train", "validation", "test") for word in (f"--{split}", rows)]
  message = refused(verb, "--model", str(base), *words, *(("--recipes", "untuned") if verb == "evaluate" else ()))
  assert message.startswith(f"error: {base}: the model has no chat template") and "--template plain" in message


@pytest.mark.slow
def test_target_without_a_token(files, refused, tiny_checkpoint):
  rows = files("train.jsonl", GOOD, {**GOOD, "id": "b", "target": "\x04"})
  message = refused(
    "train", "--model", str(tiny_checkpoint), "--train", rows, "--validation", rows, "--model_dir", "run"
  )
  assert message.startswith(f"error: {rows}:2: 1 of 2 rows have a target without tokens")


OUTPUTS = {
  "rows.jsonl": "is a file that --test reads, and would be overwritten: give another --output",
  "./rows.jsonl": "is a file that --test reads",
  "notes.jsonl": "is there already and holds no answers of `fiat predict`: give another --output",
  "notes.txt": "is there already and holds no answers of `fiat predict`",
  "folder": "is there already and is no file: give another --output",
  "rows.jsonl/below.jsonl": "cannot be written (Not a directory): give another --output",
  "x" * 300: "cannot be written (File name too long)",
}


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output[:30])
@pytest.mark.parametrize("deployed", [False, True], ids=["run", "deployment"])
def test_a_place_where_answers_must_not_or_cannot_be_written(deployed, output, files, refused, tmp_path):
  files("rows.jsonl", GOOD)
  files("notes.jsonl", {"question": "q", "answer": "a"})
  files("notes.txt", "years of work")
  (tmp_path / "folder").mkdir()
  words = ["--recipes", "untuned", "--test", "rows.jsonl[:1]", "--output", output]
  if deployed:
    deployment = {"deployment": 1, "fingerprint": "f", "settings": {}, "recipe": {}}
    words += ["--deployment", files("deployment.json", deployment)]
  assert OUTPUTS[output] in refused("predict", *words)


def test_answers_that_predict_wrote_may_be_replaced(files):
  answers = {"id": "a", "lang": "en", "group": "a", "input": "q", "prediction": "p", "logprob": -1.0}
  deployed = {"id": "a", "answer": "p", "finish": "stop", "versions": {}, "cost": 0.0}
  for file in (files("one.jsonl", answers), files("two.jsonl", deployed), files("empty.jsonl")):
    check_output(configure([], [], {"TEST": files("rows.jsonl", GOOD), "OUTPUT": file}).settings)


def test_folders_that_cannot_be_written_are_refused_before_any_work(files, refused):
  rows = files("rows.jsonl", GOOD)
  for output in (rows, f"{rows}/below"):
    assert "give another --output" in refused("evaluate", "--recipes", "untuned", "--test", rows, "--output", output)
    assert "give another --output" in refused("prepare", "xor_attriqa", "--sample", "--output", output)


def test_a_template_that_names_no_column_or_the_label(files, refused):
  rows = files("rows.jsonl", GOOD)
  message = refused("validate", "--train", rows, "--input", "input")
  assert "--input 'input' names no column: write it in braces, as in '{question}'" in message
  message = refused("validate", "--train", rows, "--input", "{input} {target}")
  assert "x would hold the column 'target', which is the --target: the label would stand in the prompt" in message
  assert "x would hold the column 'input'" in refused("validate", "--train", rows, "--target", "input")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"splits": 3}', "folder"])
def test_a_run_s_damaged_files_are_named(content, files, refused, tmp_path, monkeypatch):
  (tmp_path / "run").mkdir()
  monkeypatch.chdir(tmp_path)
  rows = files("my.jsonl", *({**GOOD, "id": str(n), "input": f"q{n}"} for n in range(12)))
  files("run/config.gin", f"DATA = {rows!r}")
  if content == "folder":
    (tmp_path / "run" / "splits.json").mkdir()
  else:
    files("run/splits.json", content)
  message = refused("evaluate", "--model_dir", "run", "--recipes", "untuned", "--model", "smollm2_135m_instruct")
  assert "run/splits.json: cannot be read" in message and "delete it, and it is written again" in message


def test_a_run_whose_configuration_cannot_be_read(refused, tmp_path):
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.gin").write_bytes(b"INPUT = '\xff'")
  assert "run/config.gin: cannot be read (it is not UTF-8)" in refused("evaluate", "--model_dir", "run")
  (tmp_path / "other" / "config.gin").mkdir(parents=True)
  assert "other/config.gin: cannot be read (Is a directory)" in refused("evaluate", "--model_dir", "other")


def test_a_cache_that_cannot_be_made(files, refused, monkeypatch, tiny_checkpoint):
  monkeypatch.setenv("FIAT_CACHE", files("cache", "a file"))
  words = ["--model", str(tiny_checkpoint), "--train", files("rows.jsonl", GOOD), "--validation", "rows.jsonl"]
  message = refused("train", *words, "--model_dir", "run")
  assert "the cache folder cannot be made (Not a directory)" in message and "FIAT_CACHE" in message


def test_a_column_to_cut_that_is_not_there(files, refused):
  words = ["validate", "--train", files("rows.jsonl", GOOD), "--truncate"]
  assert "--truncate foo: the input's column is unknown; there is input" in refused(*words, "foo")
  assert "COLUMN:left" in refused(*words, "input:middle")


def test_unknown_verb_suggests_the_nearest(refused):
  assert "did you mean train?" in refused("tarin")


def test_unknown_setting_in_a_gin_file(files, refused):
  assert "TRIAN is unknown; did you mean TRAIN?" in refused("train", "--gin_file", files("my.gin", "TRIAN = 'x'"))


def test_truncated_checkpoint(files, refused, smollm2_path, tmp_path):
  cut = tmp_path / "cut.gguf"
  cut.write_bytes(smollm2_path.read_bytes()[:30_000_000])
  rows = files("train.jsonl", GOOD)
  message = refused("train", "--model", str(cut), "--train", rows, "--validation", rows, "--model_dir", "run")
  assert "cut.gguf" in message


def test_folder_that_is_no_run(files, refused, tiny_checkpoint, tmp_path):
  (tmp_path / "thesis").mkdir()
  (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
  rows = files("train.jsonl", GOOD)
  message = refused(
    "train", "--model", str(tiny_checkpoint), "--train", rows, "--validation", rows, "--model_dir", "thesis"
  )
  assert "is not empty and holds no config.gin" in message


def test_verbs_of_a_run_want_a_run(refused):
  assert "there is no run" in refused("evaluate", "--model_dir", "nowhere", "--test", "rows.jsonl")


def test_the_command_itself_exits_2_with_one_line(tmp_path):
  """The process, not only `main`: no library says anything beside our line."""
  run = subprocess.run(
    [sys.executable, "-m", "fiat_jax", "validate", "--train", "absent.jsonl"],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    env=os.environ | {"PYTHONPATH": str(pathlib.Path(cli.__file__).parents[1])},
  )
  assert run.returncode == 2
  assert run.stderr.count("\n") == 1 and run.stderr.startswith("error: absent.jsonl: cannot be read")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_a_terminal_cannot_write_is_replaced(encoding, tmp_path, monkeypatch):
  out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
  monkeypatch.setattr(sys, "stdout", out)
  (tmp_path / "rows.jsonl").write_text(json.dumps({**GOOD, "lang": "tlhIngan বাংলা"}))
  assert cli.main(["validate", "--train", str(tmp_path / "rows.jsonl"), "--model", "none"]) == 0
  out.flush()
  assert b"tlhIngan ????? 1" in out.buffer.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
