"""The scripts under launch/: what they would do, and what they do in a cloud of one folder."""

import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tarfile

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = sorted([*(ROOT / "launch").glob("*.sh"), ROOT / ".ci/run"])
TPU = ["--name", "trial", "--zone", "us-west4-a", "--bucket", "gs://mine/fiat", "--topology"]


@pytest.fixture
def cloud(tmp_path, monkeypatch):
  """A folder that stands for a cloud, with commands on PATH that record how they are called."""
  folder = tmp_path / "cloud"
  (folder / "bin").mkdir(parents=True)
  for name in ("gcloud", "srun", "ssh", "fiat"):
    fake = folder / "bin" / name
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/tests/launch/fakes.py {name} "$@"\n')
    fake.chmod(0o755)
  (folder / "grants").write_text("ACCEPTED PROVISIONING ACTIVE")
  monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
  monkeypatch.setenv("FAKE_CLOUD", str(folder))
  monkeypatch.setenv("POLL_SECONDS", "0")
  monkeypatch.setenv("TMPDIR", str(tmp_path))
  (tmp_path / "my.csv").write_text("target\nyes\n")
  (tmp_path / "stores/mine").mkdir(parents=True)
  (tmp_path / "stores/mine/answers-0.jsonl").write_text("{}\n")
  return folder


def launch(cloud, script: str, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
  """Runs a copy of launch/ beside an environment that records, from the folder in which the user's files are."""
  there = cloud.parent / "repository"
  if not there.exists():
    (there / "launch").mkdir(parents=True)
    for file in ("tpu_vm.sh", "gpu.sh", "common.sh", "travel.sh"):
      (there / "launch" / file).write_bytes((ROOT / "launch" / file).read_bytes())
    (there / "launch/setup.sh").write_text("")
    for file in there.glob("launch/*.sh"):
      file.chmod(0o755)
    (there / ".venv/bin").mkdir(parents=True)
    (there / ".venv/bin/fiat").symlink_to(cloud / "bin/fiat")
    for name in ("fiat_jax", "gin", "tasks", "requirements.txt", "pyproject.toml", "README.md", "LICENSE"):
      (there / name).symlink_to(ROOT / name)
  done = subprocess.run([there / "launch" / script, *words], cwd=cloud.parent, capture_output=True, text=True)
  assert done.returncode == code, done.stderr
  return done


def calls(cloud, *start: str) -> list[list[str]]:
  """The calls that were made so, in order."""
  file = cloud / "calls"
  found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
  return [call for call in found if call[: len(start)] == list(start)]


def test_shellcheck_finds_nothing():
  done = subprocess.run(
    [pathlib.Path(sys.executable).with_name("shellcheck"), "-x", *SCRIPTS], cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_keep_to_what_bash_3_2_has(script):
  """That of macOS: no associative arrays, no `mapfile`, no `${x,,}`, no `&>>`, no `wait -n`, no `${x@Q}`."""
  text = re.sub(r"^\s*#.*", "", script.read_text(), flags=re.MULTILINE)
  newer = (
    r"declare -A|local -A|mapfile|readarray|\$\{\w+(,|\^|@[A-Z])|&>>|\|&|wait -n|coproc|EPOCH|;;&|;&|local -n|\[-1\]"
  )
  assert not re.search(newer, text)
  assert subprocess.run(["bash", "-n", script]).returncode == 0


def test_a_dry_run_prints_bucket_zone_quota_and_every_command_and_does_nothing(cloud):
  words = ["all", *TPU, "v5e:4x4", "--spot", "--dry_run", "--", "train", "--mesh", "fsdp=16", "--data", "my.csv"]
  told = launch(cloud, "tpu_vm.sh", *words).stdout
  assert "bucket: gs://mine/fiat" in told and "zone: us-west4-a, which has of v5litepod-16" in told
  assert "quota: 16 chips, preemptible ones, of v5e in us-west4-a are needed" in told and "projects/a-project" in told
  order = ["queued-resources create trial", "queued-resources describe", "tar -czf", "code.tar.gz", "files/1/my.csv"]
  order += [
    "setup.sh tpu",
    "fiat train --mesh fsdp=16 --data ../bucket/files/1/my.csv",
    "tail --pid",
    "rsync",
    "delete",
  ]
  places = [told.index(part) for part in order]
  assert places == sorted(places)
  assert "--accelerator-type v5litepod-16 --runtime-version v2-alpha-tpuv5-lite --spot" in told
  assert "--model_dir ../bucket/runs/trial --coordinator auto" in told
  changing = ("create", "delete", "cp", "rsync", "ssh")
  assert not [call for call in calls(cloud) if set(call) & set(changing)] and not (cloud / "buckets").exists()


@pytest.mark.parametrize(
  ("topology", "kind"),
  [("v4:2x2x2", "v4-16"), ("v5p:2x2x1", "v5p-8"), ("v6e:2x4", "v6e-8"), ("v5e:1x1", "v5litepod-1")],
)
def test_a_slice_is_asked_for_by_its_name_at_google_s(cloud, topology, kind):
  told = launch(cloud, "tpu_vm.sh", "all", *TPU, topology, "--dry_run", "--", "train").stdout
  assert f"--accelerator-type {kind} " in told
  assert ("--coordinator auto" in told) == (topology == "v4:2x2x2")  # others have one host


def test_a_run_goes_from_creation_to_deletion_and_on_after_a_preemption(cloud):
  """The rows and the store travel, the key does not; the run folder comes back."""
  (cloud / "preempts").touch()
  words = ["--model", "flan_t5_xl", "--data", "my.csv[:512]", "--beta", "openai:big", "--store", "stores/mine"]
  words += ["--instruction", "Say 'it'.\\n\\n{x}", "--gin_file", "gin/runs/demo.gin", "--model_dir", "runs/mine"]
  done = launch(cloud, "tpu_vm.sh", "all", *TPU, "v5e:2x4", "--spot", "--", "train", *words)
  assert "trial was preempted: it is asked for again" in done.stderr and "trained" in done.stdout
  verbs = [call[4] for call in calls(cloud, "gcloud", "compute", "tpus", "queued-resources") if call[4] != "describe"]
  assert verbs == ["create", "delete", "create", "delete"] and not (cloud / "states").exists()
  assert calls(cloud, "fiat")[0] == ["fiat", "annotate", *words]  # here
  sent = ["--data", "../bucket/files/1/my.csv[:512]", "--beta", "openai:big", "--store", "../bucket/stores/mine"]
  wanted = ["train", "--model", "flan_t5_xl", *sent, *words[8:-1], "../bucket/runs/trial"]
  assert [call[1:] for call in calls(cloud, "fiat") if call[1] == "train"] == [wanted, wanted]
  bucket = cloud / "buckets/mine/fiat"
  assert (bucket / "stores/mine/answers-0.jsonl").exists() and (bucket / "files/1/my.csv").exists()
  assert json.loads((cloud.parent / "runs/mine/results.json").read_text())[1:] == wanted
  assert not any("OPENAI_API_KEY" in word for call in calls(cloud) for word in call)


def test_all_of_the_code_travels_and_nothing_else(tmp_path):
  """`gin/runs` too, of the same name as the folder of runs, which stays."""
  words = [ROOT / "launch/tpu_vm.sh", "setup", *TPU, "v5e:2x2", "--dry_run", "--", "train"]
  told = subprocess.run(words, env=os.environ | {"TMPDIR": str(tmp_path)}, capture_output=True, text=True).stdout
  subprocess.run(shlex.split(next(line for line in told.splitlines() if line.startswith("tar "))), check=True)
  with tarfile.open(tmp_path / "fiat_trial.tar.gz") as archive:
    names = archive.getnames()
  here = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
  needed = {name for name in here if name.startswith(("fiat_jax/", "gin/", "tasks/", "launch/"))}
  assert needed and needed <= set(names) and "gin/runs/rows.gin" in names and "pyproject.toml" in names
  assert not [name for name in names if name.startswith((".git", ".venv", "runs", "stores"))]


def test_answers_that_a_slice_bought_before_it_was_taken_away_are_not_sent_over(cloud):
  """The store that is here already is older than what the slice made of it."""
  (cloud / "preempts").touch()
  words = ["annotate", "--data=my.csv", "--beta=smollm2_135m_instruct", "--store=stores/mine"]
  launch(cloud, "tpu_vm.sh", "all", *TPU, "v5e:2x2", "--spot", "--", *words)
  assert [call[1] for call in calls(cloud, "fiat")] == ["annotate", "annotate"]
  for store in (cloud / "buckets/mine/fiat/stores/mine", cloud.parent / "stores/mine"):
    assert (store / "answers-0.jsonl").read_text() == "{}\n" + 2 * "bought\n"


def test_what_is_written_with_an_equals_sign_travels_and_output_comes_back(cloud):
  run = cloud.parent / "runs/mine"
  run.mkdir(parents=True)
  (run / "config.gin").write_text("trained here")
  words = ["predict", "--model_dir=runs/mine", "--test=my.csv[:2]", "--output=found/answers.jsonl", "--gin.BATCH=32"]
  launch(cloud, "tpu_vm.sh", "all", *TPU, "v5e:1x1", "--", *words)
  (call,) = calls(cloud, "fiat")
  there = ["--model_dir", "../bucket/runs/trial", "--test", "../bucket/files/1/my.csv[:2]", "--output"]
  assert call[1:] == ["predict", *there, "../bucket/outputs/trial/answers.jsonl", "--gin.BATCH=32"]
  assert (cloud / "buckets/mine/fiat/runs/trial/config.gin").read_text() == "trained here"
  assert (cloud.parent / "found/answers.jsonl").read_text() == "answers"


def test_a_lost_network_is_no_preemption(cloud):
  (cloud / "loses").write_text("3")  # the exit code's and two looks at the slice
  done = launch(cloud, "tpu_vm.sh", "all", *TPU, "v5e:1x1", "--", "train", "--data", "my.csv")
  assert (
    done.stderr.count("nothing is known of trial, looking again: ERROR: gcloud crashed") == 2
    and "preempted" not in done.stderr
  )
  assert "the connection to trial was lost: again" in done.stderr and "trained" in done.stdout
  verbs = [call[4] for call in calls(cloud, "gcloud", "compute", "tpus", "queued-resources") if call[4] != "describe"]
  assert verbs == ["create", "delete"] and not (cloud / "states").exists()


@pytest.mark.parametrize(("refuses", "code"), [(1, 0), (99, 2)])
def test_a_slice_is_deleted_in_the_end_or_it_is_told_that_it_costs(cloud, refuses, code):
  (cloud / "refuses").write_text(str(refuses))
  (cloud / "preempts").touch()
  done = launch(cloud, "tpu_vm.sh", "all", *TPU, "v5e:1x1", "--", "train", "--data", "my.csv", code=code)
  assert "trial was preempted" in done.stderr and (cloud / "states").exists() == bool(code)
  assert ("trial is still there or asked for, and costs" in done.stderr) == bool(code)
  assert ("error: launch/tpu_vm.sh: trial could not be deleted" in done.stderr) == bool(code)


def test_words_that_are_names_of_files_here_by_chance_stay_words(cloud):
  for name in ("train", "fiat", "answer", "flan_t5_xl"):
    (cloud.parent / name).mkdir()
  words = [
    "--data",
    "my.csv",
    "--target",
    "answer",
    "--recipes",
    "fiat",
    "--exemplars",
    "train",
    "--model",
    "flan_t5_xl",
  ]
  launch(cloud, "tpu_vm.sh", "all", *TPU, "v5e:1x1", "--", "train", *words)
  (call,) = calls(cloud, "fiat")
  assert call[1:-2] == ["train", "--data", "../bucket/files/1/my.csv", *words[2:]]


def test_who_leaves_while_a_slice_costs_is_told(cloud, monkeypatch):
  monkeypatch.setenv("FAKE_SETUP_EXIT", "1")
  done = launch(cloud, "tpu_vm.sh", "all", *TPU, "v5e:1x1", "--", "train", "--data", "my.csv", code=2)
  assert "setting up did not end well" in done.stderr and (cloud / "states").exists()
  assert "trial is still there or asked for, and costs: launch/tpu_vm.sh setup, run" in done.stderr


def test_a_run_that_fails_is_fetched_its_slice_deleted_and_its_exit_code_kept(cloud, monkeypatch):
  monkeypatch.setenv("FAKE_EXIT", "2")
  done = launch(cloud, "tpu_vm.sh", "all", *TPU, "v5e:1x1", "--", "train", "--data", "my.csv", code=2)
  assert "the run ended with exit code 2" in done.stderr
  assert not (cloud / "states").exists() and (cloud.parent / "runs/trial/results.json").exists()


def test_a_small_comparison_goes_one_recipe_a_chip_and_then_together(cloud):
  words = ["--data", "my.csv", "--recipes", "fiat,fine_tuning,beta", "--model_dir", "runs/mine"]
  launch(cloud, "tpu_vm.sh", "all", *TPU, "v5e:2x2", "--recipe_a_chip", "--", "compare", *words)
  first, *trained, last = [call[1:] for call in calls(cloud, "fiat")]
  there = ["--data", "../bucket/files/1/my.csv"]
  both = ["compare", *there, "--recipes", "fiat,fine_tuning,beta", "--model_dir", "../bucket/runs/trial"]
  assert (first, last) == ([*both, "--dry_run"], both)
  runs = [
    ["train", *there, "--recipes", r, "--model_dir", f"../bucket/runs/trial/{r}"] for r in ("fiat", "fine_tuning")
  ]
  assert sorted(trained) == runs
  folder = cloud.parent / "runs/mine"
  assert [json.loads((folder / r / "results.json").read_text())[0] for r in ("fiat", "fine_tuning")] == ["0", "1"]


@pytest.mark.parametrize(
  ("words", "told"),
  [
    (["start"], "'start' is no word of ours"),
    (["all", "--topology", "v5e:4x4"], "give --zone"),
    (["all", "--zone", "z", "--bucket", "mine"], "--bucket 'mine': give gs://BUCKET"),
    (["all", *TPU, "v9:2x2"], "--topology 'v9:2x2'"),
    (["all", *TPU, "v5e:2x2"], "what is to be run goes behind --"),
    (["all", *TPU, "v5e:2x2", "train"], "train: unknown; fiat's own words go behind --"),
    (["all", *TPU, "v5e:4x4", "--recipe_a_chip", "--", "compare"], "v5e:4x4 has 4 hosts"),
    (["run", *TPU, "v5e:2x2", "--recipe_a_chip", "--", "train"], "the command is to be a compare with --recipes"),
    (
      ["setup", *TPU, "v5e:2x2", "--", "train", "--beta", "openai:big"],
      "without --store: its answers travel in a store",
    ),
  ],
)
def test_what_does_not_go_is_refused_in_one_line(cloud, words, told):
  done = launch(cloud, "tpu_vm.sh", *words, code=2)
  assert done.stderr.startswith("error: launch/tpu_vm.sh: ") and told in done.stderr
  assert done.stderr.count("\n") == 1 and not calls(cloud)


def test_a_bucket_that_may_not_be_written_is_refused_before_anything_costs(cloud):
  words = [word.replace("gs://mine", "gs://locked") for word in TPU]
  done = launch(cloud, "tpu_vm.sh", "all", *words, "v5e:2x2", "--", "train", code=2)
  assert done.stderr.startswith("error: launch/tpu_vm.sh: gs://locked/fiat cannot be written (ERROR: ")
  assert done.stderr.count("\n") == 1 and not calls(cloud, "gcloud", "compute")


def test_a_slice_that_is_not_granted_is_said_with_its_state(cloud):
  (cloud / "grants").write_text("ACCEPTED FAILED")
  done = launch(cloud, "tpu_vm.sh", "create", *TPU, "v5e:2x2", code=2)
  assert "error: launch/tpu_vm.sh: the slice did not come, its state is FAILED" in done.stderr


def test_gpus_of_one_machine_of_several_and_of_a_slurm_cluster(cloud):
  words = ["train", "--instruction", "Say it: {x}"]
  launch(cloud, "gpu.sh", "--", *words)
  assert calls(cloud, "fiat") == [["fiat", *words]]
  launch(cloud, "gpu.sh", "--slurm", "2", "--gpus_per_node", "4", "--", *words)
  (run,) = calls(cloud, "srun")
  assert run[1:8] == ["--nodes", "2", "--ntasks-per-node", "4", "--gpus-per-node", "4", "--kill-on-bad-exit=1"]
  assert run[9:] == words
  launch(cloud, "gpu.sh", "--nodes", "me@a,me@b", "--folder", "/shared/fiat", "--", *words)
  for number, (_, host, command) in enumerate(sorted(calls(cloud, "ssh"))):
    assert host == f"me@{'ab'[number]}" and command.startswith("cd /shared/fiat && ./launch/setup.sh cuda && ")
    assert command.endswith(
      f".venv/bin/fiat train --instruction 'Say it: {{x}}' --coordinator a:8476 --processes 2 --process {number}"
    )


def test_a_dry_run_of_gpus_prints_the_commands_alone(cloud):
  told = launch(cloud, "gpu.sh", "--nodes", "a,b", "--dry_run", "--", "train").stdout
  assert told.count("ssh ") == 2 and "--process 1" in told
  assert "srun --nodes 3" in launch(cloud, "gpu.sh", "--slurm", "3", "--dry_run", "--", "train").stdout
  assert not calls(cloud)


def test_a_node_that_fails_gives_its_exit_code(cloud, monkeypatch):
  monkeypatch.setenv("FAKE_EXIT", "143")
  launch(cloud, "gpu.sh", "--nodes", "a,b", "--", "train", code=143)


@pytest.mark.parametrize(
  ("words", "told"),
  [
    ([], "what is to be run goes behind --"),
    (["--nodes", "a", "--slurm", "2", "--", "train"], "--nodes or --slurm, not both"),
    (["--slurm", "many", "--", "train"], "'many' is none"),
    (["--hosts", "a"], "--hosts: unknown"),
  ],
)
def test_what_gpu_sh_does_not_understand_is_refused_in_one_line(cloud, words, told):
  done = launch(cloud, "gpu.sh", *words, code=2)
  assert done.stderr.startswith("error: launch/gpu.sh: ") and told in done.stderr and done.stderr.count("\n") == 1
