"""FLAN-MINI out of its sources: sets in TFDS's own form, written for the purpose, one of the Hub, prepared rows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fiat_jax import cli
from fiat_jax.preparation.converters.flan_mini import SIZES

ROOT = Path(__file__).parents[2]
SCRIPT = """
import hashlib, json, os, pathlib
import seqio, tensorflow as tf, tensorflow_datasets as tfds
F = tfds.features
TEXT = F.Text()
LABELS = lambda *names: F.ClassLabel(names=list(names))

def store(name, features, row, count=40):
  whole, version = name.split(":")
  called, _, config = whole.partition("/")
  filled = lambda value, n: value.format(n) if isinstance(value, str) else value
  data = {key: [filled(row[key], n) for n in range(count)] for key in features}
  tfds.dataset_builders.store_as_tfds_dataset(
    name=called, version=version, config=config or None, features=F.FeaturesDict(features),
    split_datasets={"train": tf.data.Dataset.from_tensor_slices(data)}, data_dir=DATA,
  )

texts = lambda *names: dict.fromkeys(names, TEXT)
store("gsm8k:1.0.0", texts("question", "answer"), {"question": "{} + 1?", "answer": "It is. #### 1"})
COPA = {**texts("premise", "question", "choice1", "choice2"), "label": LABELS("choice1", "choice2")}
store("super_glue/copa:1.0.2", COPA,
  {"premise": "It rained {}.", "question": "effect", "choice1": "It was dry.", "choice2": "It was wet.", "label": 1})

import pyarrow, pyarrow.parquet
place = pathlib.Path(os.environ["FIAT_CACHE"]) / "datasets"
place.mkdir(parents=True)
key = hashlib.sha256(b"hf:vicgalle/alpaca-gpt4:train").hexdigest()[:32]
alpaca = [{"instruction": f"Name {n}.", "input": "", "output": f"I am {n}."} for n in range(9)]
pyarrow.parquet.write_table(pyarrow.Table.from_pylist(alpaca), place / f"{key}.parquet")

import tasks.flan_mini_sources as sources
mixture, prefix = sources.MIXTURES[0], "flan_mini_sources"
found = {"rates": {task.name: mixture.get_rate(task) for task in mixture.tasks}, "examples": {}}
for name in ("cot_gsm8k_0", "cot_gsm8k_1_shots", "flan2021_super_glue_copa_0", "gpt4_alpaca", "gpt4_alpaca_shots",
             "share_gpt"):
  task = seqio.TaskRegistry.get(f"{prefix}_{name}")
  dataset = task.get_dataset({"inputs": 999, "targets": 99}, "train", shuffle=False)
  example = next(dataset.as_numpy_iterator())
  found["examples"][name] = [example[f"{part}_pretokenized"].decode() for part in ("inputs", "targets")]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_ten_collections_weigh_what_they_weigh_in_flan_mini(tmp_path, monkeypatch):
  monkeypatch.setenv("FIAT_CACHE", str(tmp_path / "cache"))
  assert cli.main(["prepare", "flan_mini", "--sample", "--quiet"]) == 0
  script = SCRIPT.replace("DATA,", f"{str(tmp_path / 'tfds')!r},")
  environment = os.environ | {"TFDS_DATA_DIR": str(tmp_path / "tfds"), "CUDA_VISIBLE_DEVICES": ""}
  run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
  assert run.returncode == 0, run.stderr[-2000:]
  found = json.loads(run.stdout.splitlines()[-1])
  rates = {name.removeprefix("flan_mini_sources_"): rate for name, rate in found["rates"].items()}
  for collection, size in SIZES.items():
    of = [rate for name, rate in rates.items() if name.startswith(collection)]
    assert sum(of) == pytest.approx(size)
    shown = [rate for name, rate in rates.items() if name.startswith(collection) and name.endswith("_shots")]
    assert sum(shown) == pytest.approx(size / 2)
  capped = {name: rates[f"flan2021_{name}_0"] for name in ("glue_mnli", "squad_v11", "super_glue_copa")}
  assert capped["glue_mnli"] == capped["squad_v11"] == pytest.approx(75 * capped["super_glue_copa"])
  prompt, target = found["examples"]["cot_gsm8k_0"]
  assert re.fullmatch(r"\d+ \+ 1\?\nThink step by step\.", prompt) and target == "It is. #### 1"
  prompt, target = found["examples"]["cot_gsm8k_1_shots"]
  assert prompt.count("It is. #### 1\n\n") == 2 and prompt.endswith(" + 1?") and target == "It is. #### 1"
  assert found["examples"]["flan2021_super_glue_copa_0"][1] == "It was wet."
  assert found["examples"]["gpt4_alpaca"] == ["Name 0.", "I am 0."]
  assert found["examples"]["gpt4_alpaca_shots"][0] == "Name 1.\nI am 1.\n\nName 2.\nI am 2.\n\nName 0."
  assert found["examples"]["share_gpt"][1] == "Lake Geneva."
