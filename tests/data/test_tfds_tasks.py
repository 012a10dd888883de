"""The tasks over TFDS read data sets in TFDS's own form, written for the purpose, at the pinned versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
import numpy as np, seqio, tensorflow as tf, tensorflow_datasets as tfds
F = tfds.features
NLI = F.ClassLabel(names=["entailment", "neutral", "contradiction"])

def store(name, version, features, rows, splits, config=None):
  data = {key: [row[key] for row in rows] for key in features}
  tfds.dataset_builders.store_as_tfds_dataset(
    name=name, version=version, config=config, features=F.FeaturesDict(features),
    split_datasets={split: tf.data.Dataset.from_tensor_slices(data) for split in splits}, data_dir=DATA,
  )

text = F.Text()
store("gsm8k", "1.0.0", dict.fromkeys(["question", "answer", "annotation", "short_answer"], text),
  [{"question": "6 + 1,000?", "answer": "1006 #### 1,006", "annotation": "1006", "short_answer": "1,006"}],
  ["train", "test", "train_socratic", "test_socratic"])
store("esnli", "0.1.0", {**dict.fromkeys(
  ["premise", "hypothesis", "explanation_1", "explanation_2", "explanation_3"], text), "label": NLI},
  [{"premise": "A goat eats.", "hypothesis": "No goat eats.", "explanation_1": "", "explanation_2": "",
    "explanation_3": "", "label": 2}], ["train", "validation", "test"])
import tasks.tfds_sets as sets
found = {"names": [task.name for task in sets.TASKS], "sources": {}}
for name, (_, source) in sets.SETS.items():
  found["sources"][name] = source.name
for name in ("gsm8k", "esnli"):
  task = seqio.TaskRegistry.get(f"tfds_{name}")
  example = next(task.get_dataset({"inputs": 999, "targets": 99}, "test", shuffle=False).as_numpy_iterator())
  found[name] = [example[f"{part}_pretokenized"].decode() for part in ("inputs", "targets")]
  found[name].append([int(example[part][-1]) for part in ("inputs", "targets")])
print(json.dumps(found))
"""


@pytest.mark.slow
def test_tasks_over_tfds_read_its_data_sets_at_the_pinned_versions(tmp_path):
  script = SCRIPT.replace("DATA,", f"{str(tmp_path)!r},")
  environment = os.environ | {"TFDS_DATA_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
  run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
  assert run.returncode == 0, run.stderr[-2000:]
  found = json.loads(run.stdout.splitlines()[-1])
  assert {"tfds_gsm8k", "tfds_tydi_qa_t5", "tfds_anli_r3", "tfds_copa"} <= set(found["names"])
  assert all(":" in name for name in found["sources"].values())
  assert found["gsm8k"] == ["Solve the problem. Reply with the number alone.\n\n6 + 1,000?", "1006", [1, 1]]
  prompt, target, _ = found["esnli"]
  assert prompt.endswith("Premise: A goat eats.\n\nHypothesis: No goat eats.") and target == "contradiction"
