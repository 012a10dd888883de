"""A disk that fills up while a run is saved: one line, nothing half-written counts, and with room the run goes on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fiat_jax import cli

pytestmark = pytest.mark.compiled_quickly

SCRIPT = """
mount -t tmpfs -o size=24m tmpfs "$1" || exit 77
folder=$1; result=$2; shift 2
"$@" 2>"$result/errors"; echo $? >"$result/code"
ls "$folder/run/checkpoints/latest" >"$result/left"
mount -o remount,size=400m "$folder"
"$@" 2>"$result/errors_after" && cp -r "$folder/run" "$result/run"
"""


@pytest.mark.slow
def test_a_run_whose_disk_fills_up_is_told_and_goes_on_once_there_is_room(tmp_path, tiny_checkpoint, capsys):
  """The first checkpoint (all parameters and their moments, 19 MB) fits on a disk of 24 MB, the second does not."""
  if shutil.which("unshare") is None:
    pytest.skip("a file system of a test's own needs unshare")
  for split, count in (("train", 4), ("validation", 1)):
    rows = [{"id": str(n), "input": f"What is {n} + 1?", "target": str(n + 1)} for n in range(count)]
    (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
  words = ["train", "--model", str(tiny_checkpoint), "--recipes", "full_fine_tuning", "--target_length", "4"]
  words += ["--batch", "4", "--steps", "2", "--validate_every", "1"]
  words += [f"--{split}={tmp_path / split}.jsonl" for split in ("train", "validation")]
  full, result = tmp_path / "full", tmp_path / "result"
  full.mkdir()
  result.mkdir()
  command = [sys.executable, "-m", "fiat_jax", *words, "--model_dir", str(full / "run")]
  environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
  run = subprocess.run(
    ["unshare", "-rm", "sh", "-c", SCRIPT, "sh", str(full), str(result), *command],
    capture_output=True,
    text=True,
    env=environment,
  )
  if not (result / "code").exists():
    pytest.skip(f"no file system can be mounted here: {run.stderr.strip()}")
  errors = (result / "errors").read_text()
  assert (result / "code").read_text() == "2\n", errors
  assert errors.count("error: ") == 1 and errors.splitlines()[-1].startswith(f"error: {full}/run/checkpoints")
  assert "could not be written: No space left on device" in errors and "Traceback" not in errors
  assert "0" in (result / "left").read_text().split(), "the checkpoint before stays"
  assert (result / "run" / "results.json").is_file(), (result / "errors_after").read_text()
  assert "going on from step 0" in (result / "errors_after").read_text()

  assert cli.main([*words, "--model_dir", str(tmp_path / "undisturbed"), "--quiet"]) == 0
  for file in ("metrics.jsonl", "loss.svg", "predictions/validation.jsonl"):
    assert (result / "run" / file).read_bytes() == (tmp_path / "undisturbed" / file).read_bytes()
