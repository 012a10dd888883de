"""A run killed at twenty random moments, and one told to stop at twenty, leave what the run that never stopped left."""

import json
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import t5 as small

pytestmark = pytest.mark.compiled_quickly

TIMES = 20
OF_THE_PROCESS = ("seconds", "answer_seconds", "programs")  # in results: of the last process, which did only the rest
WORDS = "the cat dog sat ran on under mat tree red blue big small and then saw a house river bird fish went home"


@pytest.fixture(scope="module")
def command(tmp_path_factory) -> list[str]:
  """Of a training with dropout that goes over its rows many times, until the loss on others no longer falls."""
  folder, drawn = tmp_path_factory.mktemp("rows"), random.Random(0)
  for split, count in (("train", 24), ("validation", 8)):
    texts = [" ".join(drawn.choices(WORDS.split(), k=12)) for _ in range(count)]
    lines = [json.dumps({"id": f"{split}{n}", "input": text}) for n, text in enumerate(texts)]
    (folder / f"{split}.jsonl").write_text("\n".join(lines))
  settings = {
    "objective": "span_corruption",
    "recipes": "fine_tuning",
    "model": small.write_model(tmp_path_factory.mktemp("t5")),
    "train": folder / "train.jsonl",
    "validation": folder / "validation.jsonl",
    "batch": 4,
    "epochs": 40,
    "validate_every": 3,
    "patience": 4,
    "learning_rate": 0.006,
    "lora_dropout": 0.2,
    "source_length": 64,
  }
  words = [sys.executable, "-m", "fiat_jax", "train"]
  return words + [word for name, value in settings.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, command) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("undisturbed") / "run"
  subprocess.run([*command, "--model_dir", str(folder)], check=True, capture_output=True)
  result = json.loads((folder / "results.json").read_text())
  assert result["stopped_early"] and result["best_step"] > 6 * TIMES / 4  # epochs, and early stopping, are in it
  return folder


class Moment(NamedTuple):
  """When a run is struck: so many steps after it went on, within a save or so many seconds later."""

  steps: int
  in_save: bool
  pause: float


def moments(seed: int) -> Iterator[Moment]:
  drawn = random.Random(seed)
  while True:
    yield Moment(drawn.randint(0, 5), drawn.random() < 0.4, drawn.choice([0.0, drawn.uniform(0, 0.3)]))


def logged(folder: pathlib.Path) -> int:
  """The last step that was written down."""
  file = folder / "metrics.jsonl"
  lines = file.read_text().splitlines() if file.exists() else []
  return max((json.loads(line)["step"] for line in lines if line.endswith("}") and '"loss"' in line), default=0)


def saving(folder: pathlib.Path) -> bool:
  return any("tmp" in path.name for path in folder.glob("checkpoints/*/*"))


def strike(moment: Moment, number: signal.Signals, command, folder: pathlib.Path) -> tuple[int, bool]:
  """Starts the command and sends it a signal at that moment; its exit code, and whether it was saving then."""
  process = subprocess.Popen([*command, "--model_dir", str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
  assert process.stderr is not None
  for line in process.stderr:  # until it is about to take a step
    if line.startswith(b"going on from") or b"steps of" in line:
      break
  begun = logged(folder)
  while process.poll() is None and (logged(folder) < begun + moment.steps or (moment.in_save and not saving(folder))):
    time.sleep(0.001)
  time.sleep(moment.pause)
  was_saving = saving(folder)
  process.send_signal(number)
  process.stderr.read()
  return process.wait(), was_saving


def left_behind(folder: pathlib.Path):
  """What must not depend on interruptions: bytes of files, and the best checkpoint's arrays."""
  names = ("metrics.jsonl", "adapter/adapter_model.safetensors", "adapter/adapter_config.json", "loss.svg")
  (best,) = [path for path in (folder / "checkpoints/best").iterdir() if path.name.isdigit()]
  arrays = ocp.StandardCheckpointer().restore(best.absolute() / "trained")
  result = json.loads((folder / "results.json").read_text())
  result = {name: value for name, value in result.items() if name not in OF_THE_PROCESS}
  return [(folder / name).read_bytes() for name in names], result, best.name, jax.tree.leaves(arrays)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_run_struck_at_twenty_random_moments_leaves_the_same(number, command, undisturbed, tmp_path):
  folder, codes, saves = tmp_path / "run", [], 0
  for moment in moments(seed=number):
    code, was_saving = strike(moment, number, command, folder)
    codes.append(code)
    saves += was_saving
    if len(codes) == TIMES or code == 0:
      break
  stopped = -number if number == signal.SIGKILL else 128 + number
  assert codes == [stopped] * TIMES, codes
  assert saves >= 3
  subprocess.run([*command, "--model_dir", str(folder)], check=True, capture_output=True)
  (*same, arrays), (*wanted, others) = left_behind(folder), left_behind(undisturbed)
  assert same == wanted
  for one, other in zip(arrays, others, strict=True):
    np.testing.assert_array_equal(one, other)
