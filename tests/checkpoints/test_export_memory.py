"""A large model is merged and written while it is held once: beside it stand the tensors that are being made."""

import json
import pathlib
import subprocess
import sys

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "launch" / "bench_export.py"


@pytest.mark.slow
def test_merging_and_writing_take_a_third_of_the_weights_at_the_most(tmp_path):
  command = [sys.executable, str(SCRIPT), str(tmp_path / "there")]
  found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=SCRIPT.parents[1]).stdout)
  assert found["weights_mb"] == pytest.approx(1493, rel=0.01), "Flan-T5 large in bf16"
  assert found["more_memory_share"] < 0.34
