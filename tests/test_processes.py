"""Several processes at one command: on loopback, with devices of their own, the work of one."""

import collections
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import t5 as small
from several import ROOT, begin, end, free_port, of_slurm

from fiat_jax import cli

pytestmark = pytest.mark.compiled_quickly

LOGGED = "metrics.jsonl"


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
  folder = tmp_path_factory.mktemp("rows")
  for split, count in (("train", 24), ("validation", 5), ("test", 11)):
    lines = [
      json.dumps({"id": f"{split}{n}", "input": f"What is {n} + 1?", "target": str(n + 1), "reasoning": "Count on."})
      for n in range(count)
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(lines))
  return folder


@pytest.fixture(scope="module")
def settings(rows, tmp_path_factory) -> list[str]:
  """Of a small T5, for it is quick to compile, with dropout and two microbatches an update."""
  model = small.write_model(tmp_path_factory.mktemp("t5"), num_heads=8)
  words = ["--model", str(model), "--batch", "12", "--epochs", "2", "--validate_every", "2", "--lora_dropout", "0.1"]
  words += ["--target_length", "8", "--slots", "8", "--microbatch_tokens", "64"]
  splits = ("train", "validation", "test")
  return words + [word for split in splits for word in (f"--{split}", str(rows / f"{split}.jsonl"))]


def records(folder: Path) -> list[dict]:
  return [json.loads(line) for line in (folder / LOGGED).read_text().splitlines()]


def losses(folder: Path) -> list[float]:
  return [record["loss"] for record in records(folder) if "loss" in record]


@pytest.mark.parametrize(
  ("words", "told"),
  [
    (["--processes", "2"], "--coordinator HOST:PORT, --processes N and --process I (0 to N - 1) go together"),
    (["--coordinator", "a:1", "--processes", "2", "--process", "2"], "--process 2 of --processes 2: they are counted"),
    (["--coordinator", "a", "--processes", "2", "--process", "0"], "--coordinator a: give HOST:PORT of process 0"),
    (["--coordinator", "a:99999", "--processes", "2", "--process", "0"], "--coordinator a:99999: give HOST:PORT"),
    (["--join_seconds", "0"], "--join_seconds 0: give 1 or more"),
  ],
)
def test_flags_that_do_not_go_together_are_refused(words, told, rows, capsys):
  assert cli.main(["train", "--train", str(rows / "train.jsonl"), *words]) == 2
  assert told in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_that_never_joins_is_named_after_the_time_given(settings, tmp_path):
  words = ["train", *settings, "--model_dir", str(tmp_path / "run"), "--join_seconds", "4"]
  first, *others = begin(3, 1, *words)
  others[1].kill()
  others[1].wait()
  begun = time.monotonic()
  (_, told), (_, other) = (process.communicate(timeout=120) for process in (first, others[0]))
  assert (first.returncode, others[0].returncode) == (2, 2), (told, other)
  assert "of 3 processes, these did not join within 4 s: 2." in told
  assert time.monotonic() - begun < 60 and not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("count", "mesh"), [(2, "fsdp=4,tensor=2"), (4, "")])
def test_several_processes_leave_what_one_leaves(settings, tmp_path, count, mesh):
  words = ["train", *settings, "--mesh", mesh]
  end(begin(1, 8, *words, "--model_dir", str(tmp_path / "one")))
  told = end(begin(count, 8 // count, *words, "--model_dir", str(tmp_path / "several")))
  assert told[0][0] and not any(out for out, _ in told[1:])
  np.testing.assert_allclose(losses(tmp_path / "several"), losses(tmp_path / "one"), rtol=0, atol=1e-5)
  for split, number in (("validation", 5), ("test", 11)):  # enough of these to time single answers
    one, several = (
      [json.loads(line) for line in (tmp_path / run / "predictions" / f"{split}.jsonl").read_text().splitlines()]
      for run in ("one", "several")
    )
    assert [row["id"] for row in several] == [f"{split}{n}" for n in range(number)]
    assert [row["prediction"] for row in several] == [row["prediction"] for row in one]
  assert sorted(path.name for path in (tmp_path / "several").iterdir()) == sorted(
    path.name for path in (tmp_path / "one").iterdir()
  )


@pytest.mark.slow
def test_a_comparison_by_two_processes_comes_to_what_one_finds(settings, tmp_path):
  words = ["compare", *settings, "--recipes", "fine_tuning,lora", "--seeds", "0,1", "--mesh", "fsdp=2"]
  end(begin(1, 2, *words, "--model_dir", str(tmp_path / "one")))
  told = end(begin(2, 1, *words, "--model_dir", str(tmp_path / "several")))
  assert "report.html shows it" in told[0][0] and not told[1][0]
  one, several = (json.loads((tmp_path / run / "results.json").read_text()) for run in ("one", "several"))
  assert several["to_come"] == [] and [run["seed"] for run in several["recipes"][0]["seeds"]] == [0, 1]
  assert [of["test"]["overall"] for of in several["recipes"]] == [of["test"]["overall"] for of in one["recipes"]]


@pytest.mark.slow
def test_processes_that_slurm_started_find_each_other(settings, tmp_path):
  words = ["train", *settings, "--epochs", "1", "--model_dir", str(tmp_path / "run")]
  (printed, _), (nothing, _) = end(begin(2, 2, *words, slurm=True))
  assert printed and not nothing and len(losses(tmp_path / "run")) == 2


OF_MPI = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://10.96.0.1,10.148.0.1:34911", "OMPI_COMM_WORLD_LOCAL_RANK": "1"}
OF_MPI |= {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "3"}


@pytest.mark.parametrize("told", [of_slurm(7, 2, 1, "node[001-002]"), OF_MPI], ids=["slurm", "mpi"])
def test_what_a_launcher_says_is_heard(told, monkeypatch, capsys):
  for name, value in told.items():
    monkeypatch.setenv(name, value)
  monkeypatch.setenv("FIAT_SERVE_TOKEN", "")
  assert cli.main(["serve", "--model", "none"]) == 2
  assert "fiat serve is the work of one process" in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_the_run_goes_on_in_one_process(settings, tmp_path):
  words = ["train", *settings, "--epochs", "20", "--model_dir", str(tmp_path / "run")]
  started = begin(2, 4, *words)
  while not (tmp_path / "run" / LOGGED).exists() or len(losses(tmp_path / "run")) < 3:
    assert started[0].poll() is None, started[0].communicate()
    time.sleep(0.05)
  started[1].send_signal(signal.SIGTERM)
  end(started, code=143)
  before = losses(tmp_path / "run")
  end(begin(1, 8, *words))
  assert losses(tmp_path / "run")[: len(before)] == before and len(losses(tmp_path / "run")) == 40


@pytest.mark.slow
def test_a_run_folder_that_not_all_see_is_refused_before_compiling(settings, tmp_path):
  """One relative path in two places, as one local path is on two hosts."""
  for name in ("a", "b"):
    (tmp_path / name).mkdir()
  told = end(begin(2, 4, "train", *settings, "--model_dir", "run", places=[tmp_path / "a", tmp_path / "b"]), code=2)
  assert all("run: process 1 (" in err and "give a --model_dir that all hosts share" in err for _, err in told)
  assert not any("first step" in err for _, err in told) and not (tmp_path / "b" / "run").exists()


@pytest.mark.slow
def test_processes_that_were_told_different_things_are_refused(settings, tmp_path):
  words = ["train", *settings, "--model_dir", str(tmp_path / "run")]
  told = end(begin(2, 4, *words, beside=[[], ["--learning_rate", "0.5"]]), code=2)
  assert all("the settings of process 1" in err and "are not those of process 0" in err for _, err in told)


@pytest.fixture
def apart(rows, settings, tmp_path):
  """Two folders with the same rows, a host's each, and words that name the rows as they lie in both."""
  for name in ("a", "b"):
    shutil.copytree(rows, tmp_path / name)
  words = [Path(word).name if word.endswith(".jsonl") else word for word in settings]
  return [tmp_path / "a", tmp_path / "b"], ["train", *words, "--model_dir", str(tmp_path / "run")]


@pytest.mark.slow
def test_what_fails_in_one_process_is_said_by_all_and_none_waits(apart, tmp_path):
  places, words = apart
  (places[1] / "test.jsonl").unlink()
  begun = time.monotonic()
  told = end(begin(2, 1, *words, places=places), code=2)
  assert "error: process 1 (" in told[0][1] and all("test.jsonl" in err for _, err in told)
  assert all(err.count("error:") == 1 and "Traceback" not in err for _, err in told), told
  assert time.monotonic() - begun < 60 and not (tmp_path / "run").exists()


BROKEN = """
import sys
import meshes
from fiat_jax import cli, processes
def work(arguments):
  meshes.join(*sys.argv[1:])
  if not processes.first():
    raise RuntimeError("broken")
  processes.wait()
cli._run = work
sys.exit(cli.main([]))
"""
LISTENING = """
import sys
import meshes
from fiat_jax import cluster
cluster.LOOK_SECONDS = 0.0
meshes.join(*sys.argv[1:])
"""


def of_code(code: str) -> list[subprocess.Popen[str]]:
  """Two processes that run this code, whose arguments `meshes.join` takes."""
  command, pipe = [sys.executable, "-c", code, f"127.0.0.1:{free_port()}", "2"], subprocess.PIPE
  environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
  return [subprocess.Popen([*command, str(n)], env=environment, stdout=pipe, stderr=pipe, text=True) for n in range(2)]


@pytest.mark.slow
def test_a_fault_of_ours_in_one_process_is_one_of_ours_in_all():
  """Exit code 1, after which `tpu_vm.sh` looks whether the slice is still there; 2 would be the user's to mend."""
  started = of_code(BROKEN)
  (_, first), (_, second) = end(started, code=1)
  assert "failed, and says why itself (RuntimeError)" in first and "Traceback" not in first
  assert "RuntimeError: broken" in second


@pytest.mark.slow
def test_processes_that_always_listen_for_the_others_end_well():
  """A thread that is within JAX's client when Python ends aborts the process, its work done."""
  for _ in range(4):
    end(of_code(LISTENING))


@pytest.mark.slow
def test_other_rows_on_another_host_are_refused(apart, tmp_path):
  places, words = apart
  file = places[1] / "train.jsonl"
  file.write_text(file.read_text().replace('"target": "7"', '"target": "8"'))
  told = end(begin(2, 1, *words, places=places), code=2)
  assert (
    all("the settings, the rows or the model of process 1 (" in err for _, err in told)
    and not (tmp_path / "run").exists()
  )


@pytest.mark.slow
def test_hosts_with_unlike_devices_are_refused(settings, tmp_path):
  words = ["train", *settings, "--model_dir", str(tmp_path / "run"), "--mesh", "data=3"]
  told = end(begin(2, [2, 1], *words), code=2)
  assert all("but process 0 has 2, process 1 has 1" in err for _, err in told)


@pytest.mark.slow
def test_what_several_processes_tuned_whole_is_read_by_one_device(settings, tmp_path, capsys):
  run, words = tmp_path / "run", ["--recipes", "full_fine_tuning", "--mesh", "data=2,fsdp=2"]
  end(begin(2, 2, "train", *settings, *words, "--model_dir", str(run)))
  one = ["--model_dir", str(run), "--mesh", ""]
  assert cli.main(["evaluate", *one, "--output", str(tmp_path / "again")]) == 0, capsys.readouterr().err
  found = json.loads((tmp_path / "again" / "evaluation_test.json").read_text())["test"]
  assert found == json.loads((run / "results.json").read_text())["test"]
  words = ["export", *one, "--format", "huggingface", "--output", str(tmp_path / "merged")]
  assert cli.main(words) == 0, capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(("mesh", "weights"), [("", ""), ("data=2,fsdp=4", "int8")])
def test_annotation_by_several_processes_asks_about_every_row_once(mesh, weights, settings, tmp_path):
  rows = [word for word in settings if word.endswith(".jsonl")]
  words = ["annotate", "--beta", settings[1], "--beta_template", "plain", "--reasoning_length", "6", "--slots", "8"]
  words += ["--train", rows[0], "--test", rows[2], "--completeness", "0", "--answer", ""]
  words += ["--mesh", mesh, "--beta_weights", weights]
  found = []
  for count in (1, 2):
    store = tmp_path / f"store{count}"
    end(begin(count, 8 // count, *words, "--store", str(store)))
    found.append(answers(store))
  assert found[0] == found[1] and len(found[0]) == 24  # test rows ask what training rows ask


@pytest.fixture(scope="module")
def exemplars(tmp_path_factory) -> list[str]:
  """What to ask: two samples of rows in two languages, each with exemplars of its own and so a beginning of its own."""
  folder = tmp_path_factory.mktemp("exemplars")
  shots = [
    {"id": f"{lang}{n}", "lang": lang, "input": f"{lang} {n}?", "target": "2", "reasoning": f"In {lang} it is {n}."}
    for lang in ("en", "hi") for n in range(2)
  ]  # fmt: skip
  rows = [{"id": f"{n}", "lang": ("en", "hi")[n % 2], "input": f"What is {n}? " * (n % 4 + 1)} for n in range(40)]
  for name, lines in (("shots", shots), ("rows", rows)):
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)))
  words = ["annotate", "--test", str(folder / "rows.jsonl"), "--exemplars", str(folder / "shots.jsonl"), "--shots", "2"]
  words += ["--shot_choice", "language", "--samples", "2", "--temperature", "0.8", "--slots", "4"]
  return [*words, "--completeness", "0", "--answer", ""]


@pytest.mark.slow
def test_groups_of_prompts_with_stop_texts_are_answered_by_several_processes_as_by_one(
  exemplars, tiny_checkpoint, tmp_path
):
  words = [*exemplars, "--beta", str(tiny_checkpoint), "--reasoning_length", "24", "--stops", "a,e"]
  found, told = [], []
  for count in (1, 2):
    store = tmp_path / f"store{count}"
    told.append(end(begin(count, 4 // count, *words, "--store", str(store)))[0][1])
    found.append(answers(store))
  assert all("prompts begin in 2 ways" in err for err in told)
  assert found[0] == found[1] and len(found[0]) == 80


@pytest.mark.slow
def test_a_signal_to_one_stops_annotation_in_all_and_one_process_goes_on(exemplars, tiny_checkpoint, tmp_path):
  words = [*exemplars, "--beta", str(tiny_checkpoint), "--reasoning_length", "32", "--store", str(tmp_path / "store")]
  started = begin(2, 2, *words)
  while not answers(tmp_path / "store"):
    assert started[0].poll() is None, started[0].communicate()
    time.sleep(0.02)
  started[1].send_signal(signal.SIGTERM)
  end(started, code=143)
  before = answers(tmp_path / "store")
  assert 0 < len(before) < 80
  end(begin(1, 4, *words))
  after = answers(tmp_path / "store")
  assert len(after) == 80 and before.items() <= after.items()


def answers(store: Path) -> dict[str, str]:
  """What each request was answered, none of them twice."""
  lines = [json.loads(line) for file in store.glob("answers-*.jsonl") for line in file.read_text().splitlines()]
  found = [(line["key"], line["text"]) for line in lines if line["kind"] == "answer"]
  assert max(collections.Counter(key for key, _ in found).values(), default=1) == 1
  return dict(found)


def test_what_one_process_does_is_refused_in_several(capsys, monkeypatch):
  monkeypatch.setenv("FIAT_SERVE_TOKEN", "")
  assert cli.main(["serve", "--model", "none", "--coordinator", "a:1", "--processes", "2", "--process", "1"]) == 2
  assert "fiat serve is the work of one process, over all devices that it sees" in capsys.readouterr().err
