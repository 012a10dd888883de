"""Adapters of every kind from training to export and back, in both families; and in PEFT, where that is installed."""

from __future__ import annotations

import json
import os
import subprocess

import numpy as np
import pytest
import t5 as small
from commands import records, results, runner, write_questions
from safetensors.numpy import load_file

import fiat_jax
from fiat_jax import cli

pytestmark = pytest.mark.compiled_quickly

PEERS = os.environ.get("FIAT_PEERS", "")  # a Python with torch, transformers and peft
KINDS = ("lora", "rslora", "dora", "ia3", "prompt")


@pytest.fixture(scope="module")
def fiat(tmp_path_factory):
  rows = write_questions(tmp_path_factory.mktemp("rows"))
  return runner(rows, "--steps", "6", "--batch", "4", "--target_length", "6", "--validate_every", "6")


@pytest.fixture(scope="module")
def models(tmp_path_factory, tiny_checkpoint):
  return {"t5": small.write_model(tmp_path_factory.mktemp("t5"), num_layers=1), "llama": tiny_checkpoint}


def tuned(fiat, models, folder, family, kind, *words):
  recipe = "fine_tuning" if kind == "lora" else f"fine_tuning_{kind}"
  rate = {"ia3": "0.3", "prompt": "1.0"}.get(kind, "0.05")
  model = str(models[family])
  fiat("train", folder, "--model", model, "--recipes", recipe, "--learning_rate", rate, "--lora_rank", "3", *words)
  return folder


@pytest.mark.slow
@pytest.mark.parametrize("family", ["t5", "llama"])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_exported_answers_as_the_run_did_here_and_in_peft(fiat, models, family, kind, tmp_path):
  run, out = tuned(fiat, models, tmp_path / "run", family, kind), tmp_path / "out"
  assert cli.main(["export", "--model_dir", str(run), "--output", str(out)]) == 0
  wanted = records(run / "predictions" / "test.jsonl")
  rows = [{"input": row["input"]} for row in wanted]
  loaded = fiat_jax.load(out, model=str(models[family]))
  assert loaded.predict(rows) == [row["prediction"] for row in wanted]
  if kind == "prompt":
    words = ["export", "--model_dir", str(run), "--format", "huggingface", "--output", str(tmp_path / "merged")]
    assert cli.main(words) == 2
  else:
    assert (
      cli.main(["export", "--model_dir", str(run), "--format", "huggingface", "--output", str(tmp_path / "merged")])
      == 0
    )
    assert fiat_jax.load(tmp_path / "merged").predict(rows) == [row["prediction"] for row in wanted]
  if PEERS:
    folders = [(out, [str(models[family])])] + ([] if kind == "prompt" else [(tmp_path / "merged", [])])
    for folder, base in folders:
      checked = subprocess.run([PEERS, str(folder / "check.py"), *base], capture_output=True, text=True)
      assert checked.returncode == 0, checked.stdout + checked.stderr[-2000:]
      print(family, kind, checked.stdout)


@pytest.mark.slow
def test_training_begins_with_an_adapter_and_another_kind_or_base_is_refused(fiat, models, tmp_path, capsys):
  first = tuned(fiat, models, tmp_path / "first", "t5", "lora")
  adapter = str(first / "adapter")
  more = tuned(
    fiat, models, tmp_path / "more", "t5", "lora", "--adapter", adapter, "--steps", "1", "--learning_rate", "1e-9"
  )
  begun, was = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (more, first))
  assert begun.keys() == was.keys() and results(more)["curve"][0]["step"] == 0
  for name in was:
    np.testing.assert_allclose(begun[name], was[name], atol=1e-6)
  words = ["train", "--model_dir", str(tmp_path / "x"), "--adapter", adapter, "--steps", "1"]
  files = [word for split in ("train", "validation") for word in (f"--{split}", str(first / "config.gin"))]
  rows = write_questions(tmp_path)
  files = [word for split in ("train", "validation") for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  capsys.readouterr()
  for more_words, message in (
    (["--model", str(models["t5"]), "--recipes", "fine_tuning_dora"], "it is LoRA, and fine-tuning, DoRA trains DoRA"),
    (["--model", str(models["llama"]), "--recipes", "fine_tuning"], "was trained on another base than this"),
    (
      ["--model", str(models["t5"]), "--recipes", "full_fine_tuning"],
      "trains all weights: choose --recipes of its kind",
    ),
  ):
    assert cli.main([*words, *files, *more_words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_an_orbax_export_is_restored_without_this_package(fiat, models, tmp_path):
  import sys

  run, out = tuned(fiat, models, tmp_path / "run", "t5", "ia3"), tmp_path / "out"
  assert cli.main(["export", "--model_dir", str(run), "--format", "orbax", "--output", str(out)]) == 0
  script = (
    "import sys, restore, numpy as np\n"
    "assert 'fiat_jax' not in sys.modules\n"
    "np.save('wo.npy', restore.restore('model')['encoder']['layers']['ffn']['down']['kernel'])\n"
  )
  listed = subprocess.run([sys.executable, "-P", "restore.py"], cwd=out, capture_output=True, text=True, env=_bare())
  assert "model/embedding float32" in listed.stdout and "adapter/" in listed.stdout, listed.stderr[-2000:]
  made = subprocess.run([sys.executable, "-c", script], cwd=out, capture_output=True, text=True, env=_bare())
  assert made.returncode == 0, made.stderr[-2000:]
  own = load_file(models["t5"] / "model.safetensors")["encoder.block.0.layer.1.DenseReluDense.wo.weight"]
  scale = load_file(run / "adapter" / "adapter_model.safetensors")
  factor = scale["base_model.model.encoder.block.0.layer.1.DenseReluDense.wo.ia3_l"]
  np.testing.assert_allclose(np.load(out / "wo.npy")[0], (own * factor).T, atol=1e-6)
  assert json.loads((out / "config.json").read_text())["model_type"] == "t5"


def _bare() -> dict[str, str]:
  return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
