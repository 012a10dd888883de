"""A run killed with SIGKILL at several moments and started again leaves what an undisturbed run leaves, bit for bit."""

import json
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import t5 as small

pytestmark = pytest.mark.compiled_quickly

ROWS = 24


@pytest.fixture(scope="module", params=["decoder-only", pytest.param("encoder-decoder", marks=pytest.mark.slow)])
def command(request, tmp_path_factory, tiny_checkpoint):
  """The command line of a run with dropout over two epochs, without its folder."""
  folder = tmp_path_factory.mktemp("rows")
  t5 = request.param == "encoder-decoder"
  checkpoint = small.write_model(tmp_path_factory.mktemp("t5")) if t5 else tiny_checkpoint
  for split, count in (("train", ROWS), ("validation", 4)):
    lines = [
      json.dumps({"id": f"{split}{n}", "input": f"What is {n} + 1?", "target": str(n + 1), "reasoning": "Count on."})
      for n in range(count)
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(lines))
  settings = {
    "model": checkpoint,
    "train": folder / "train.jsonl",
    "validation": folder / "validation.jsonl",
    "batch": 4,
    "epochs": 2,
    "validate_every": 3,
    "lora_dropout": 0.2,
    "target_length": 8,
  }
  words = [sys.executable, "-m", "fiat_jax", "train"]
  return words + [word for name, value in settings.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, command):
  folder = tmp_path_factory.mktemp("undisturbed") / "run"
  subprocess.run([*command, "--model_dir", str(folder)], check=True, capture_output=True)
  return folder


def left_behind(folder: pathlib.Path):
  """Everything that must not depend on interruptions: file bytes, and the best checkpoint's arrays."""
  files = {name: (folder / name).read_bytes() for name in ("metrics.jsonl", "predictions/validation.jsonl")}
  files["adapter"] = (folder / "adapter" / "adapter_model.safetensors").read_bytes()
  steps = [path for path in (folder / "checkpoints" / "best").iterdir() if path.name.isdigit()]
  assert len(steps) == 1
  best = ocp.StandardCheckpointer().restore(steps[0].absolute() / "trained")
  return files, steps[0].name, [np.asarray(leaf) for leaf in jax.tree.leaves(best)]


def check_equal(one: pathlib.Path, other: pathlib.Path):
  (files, best, arrays), (other_files, other_best, other_arrays) = left_behind(one), left_behind(other)
  assert files == other_files
  assert best == other_best
  for array, other_array in zip(arrays, other_arrays, strict=True):
    np.testing.assert_array_equal(array, other_array)


def logged(folder: pathlib.Path, steps: int) -> bool:
  file = folder / "metrics.jsonl"
  return file.exists() and sum('"loss"' in line for line in file.read_text().splitlines()) >= steps


def saving(folder: pathlib.Path) -> bool:
  """A checkpoint after the first is being written: Orbax writes to a folder of another name and renames it."""
  latest = folder / "checkpoints" / "latest"
  return logged(folder, 1) and latest.is_dir() and any("tmp" in path.name for path in latest.iterdir())


MOMENTS = {
  "after the second step": lambda folder: logged(folder, 2),
  "during a save": saving,
  "near the end": lambda folder: logged(folder, 11),
}


def kill_when(condition, command, folder: pathlib.Path) -> None:
  """Starts the command and kills it as soon as the condition holds; a run that ended first is started no more."""
  process = subprocess.Popen([*command, "--model_dir", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
  while process.poll() is None and not condition(folder):
    time.sleep(0.0005)
  process.send_signal(signal.SIGKILL)
  process.wait()
  assert process.returncode == -signal.SIGKILL, "the run ended before the moment came"


@pytest.mark.slow
@pytest.mark.parametrize("moment", MOMENTS)
def test_run_killed_once_and_started_again_leaves_the_same(moment, command, undisturbed, tmp_path):
  folder = tmp_path / "run"
  kill_when(MOMENTS[moment], command, folder)
  assert not (folder / "results.json").exists()
  subprocess.run([*command, "--model_dir", str(folder)], check=True, capture_output=True)
  check_equal(folder, undisturbed)


@pytest.mark.slow
def test_run_told_to_stop_saves_exits_143_and_goes_on(command, undisturbed, tmp_path):
  folder = tmp_path / "run"
  process = subprocess.Popen([*command, "--model_dir", str(folder)], stderr=subprocess.PIPE, text=True)
  while not logged(folder, 4):
    assert process.poll() is None
    time.sleep(0.0005)
  process.terminate()
  _, errors = process.communicate()
  assert process.returncode == 128 + signal.SIGTERM, errors
  steps = [int(path.name) for path in (folder / "checkpoints" / "latest").iterdir() if path.name.isdigit()]
  assert max(steps) >= 4
  subprocess.run([*command, "--model_dir", str(folder)], check=True, capture_output=True)
  check_equal(folder, undisturbed)


def test_same_folder_with_another_setting_is_refused_and_untouched(command, undisturbed):
  before = left_behind(undisturbed)[0]
  other = [*command, "--model_dir", str(undisturbed), "--learning_rate", "0.5"]
  refused = subprocess.run(other, capture_output=True, text=True)
  assert refused.returncode == 2
  assert "LEARNING_RATE was 0.001, now 0.5" in refused.stderr
  assert left_behind(undisturbed)[0] == before
