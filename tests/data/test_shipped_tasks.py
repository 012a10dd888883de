"""The shipped SeqIO tasks import on their own, as `t5x.train` does it, and are ready to be named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = """
import importlib, json, sys
import gin, seqio
import tasks.tfds_sets
gin.parse_config("import tasks.mini_xqa\\nMIXTURE_OR_TASK_NAME = 'mini_xqa_fiat'")  # MIXTURE_OR_TASK_MODULE's import
task = seqio.get_mixture_or_task(gin.query_parameter("MIXTURE_OR_TASK_NAME/macro.value"))
dataset = task.get_dataset({"inputs": 4096, "targets": 64}, "train", shuffle=False)
example = next(dataset.as_numpy_iterator())
print(json.dumps({
  "ours": sorted(name for name in sys.modules if name.split(".")[0] == "fiat_jax"),
  "gin": gin.config_str(),
  "ends": [int(example[name][-1]) for name in ("inputs", "targets")],
  "tasks": sorted(seqio.TaskRegistry.names()),
  "appended": {
    name: feature.vocabulary.extra_ids
    for name in seqio.TaskRegistry.names()
    for feature in seqio.TaskRegistry.get(name).output_features.values()
    if isinstance(feature.vocabulary, seqio.SentencePieceVocabulary)
  },
}))
"""


def test_a_seqio_trainer_finds_the_tasks_by_importing_the_module():
  run = subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True)
  assert run.returncode == 0, run.stderr
  found = json.loads(run.stdout)
  assert found["ends"] == [1, 1], "T5 reads the end mark behind both"
  wanted = [f"mini_xqa{over}_{kind}" for over in ("", "_t5") for kind in ("fiat", "fine_tuning", "spans")]
  assert set(wanted) <= set(found["tasks"])
  assert {name.split("_t5")[0] for name in found["appended"]} >= {"mini_xqa", "tfds_gsm8k"}
  assert not any(found["appended"].values()), "the extra ids are in T5's file: more would lie outside the embedding"
  assert not {"fiat_jax.cli", "fiat_jax.configuration", "fiat_jax.settings"} & set(found["ours"])
  assert not any(name.startswith(("fiat_jax.models", "fiat_jax.training")) for name in found["ours"])
