"""The wheel by itself: what a user has who never saw the repository."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import random
import subprocess
import sys
import venv
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
COLOURS, THINGS = ("red", "green", "blue", "black", "white"), ("boat", "door", "kite", "lamp", "tent", "hat")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
  folder = tmp_path_factory.mktemp("wheel")
  command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
  subprocess.run(command, check=True, capture_output=True, timeout=300)
  (file,) = folder.glob("*.whl")
  return file


@pytest.mark.slow
def test_wheel_holds_package_gin_files_and_tasks_and_nothing_else(wheel):
  names = zipfile.ZipFile(wheel).namelist()
  assert {name.split("/")[0].split("-")[0] for name in names} == {"fiat_jax"}  # the package, and its .dist-info
  homes = {"fiat_jax": "fiat_jax", "gin": "fiat_jax/gin", "tasks": "fiat_jax/tasks"}
  wanted = {
    f"{home}/{file.relative_to(ROOT / folder).as_posix()}"
    for folder, home in homes.items()
    for pattern in ("*.py", "*.gin", "*.jsonl", "*.txt", "page.*", "py.typed")
    for file in (ROOT / folder).rglob(pattern)
  }
  assert wanted and wanted <= set(names)


@pytest.mark.slow
def test_wheel_in_an_empty_environment_compares_a_csv_from_another_folder(wheel, tmp_path, smollm2_path):
  venv.create(tmp_path / "env", with_pip=True)
  python = str(tmp_path / "env" / "bin" / "python")
  install = [python, "-m", "pip", "install", "--quiet", "--no-compile", str(wheel)]  # few of its modules are imported
  install += ["--constraint", str(ROOT / "requirements.txt")]
  subprocess.run(install, check=True, capture_output=True, timeout=900)
  write_csv(tmp_path / "my.csv")
  elsewhere = tmp_path / "elsewhere"
  elsewhere.mkdir()
  words = ["compare", "--data", "../my.csv", "--target", "answer", "--lang", "language", "--group", "passage"]
  words += ["--input", r"{question}\n\n{passage}", "--instruction", r"Answer from the passage.\n\n{x}"]
  words += ["--model", str(smollm2_path), "--steps", "2", "--target_length", "8", "--model_dir", "run"]
  words += ["--recipes", "fine_tuning"]
  environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
  fiat = str(tmp_path / "env" / "bin" / "fiat")
  run = subprocess.run([fiat, *words], cwd=elsewhere, env=environment, capture_output=True, text=True, timeout=900)
  assert run.returncode == 0, run.stderr
  results = json.loads((elsewhere / "run" / "results.json").read_text())
  assert {recipe["recipe"] for recipe in results["recipes"]} >= {"fine_tuning"}
  assert list(results["recipes"][0]["test"]["languages"]) == ["en"]


def write_csv(path: pathlib.Path) -> None:
  rng = random.Random(1)
  with open(path, "w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["question", "passage", "answer", "language"])
    for _ in range(12):
      things = rng.sample(THINGS, 3)
      colours = [rng.choice(COLOURS) for _ in things]
      passage = " ".join(f"The {thing} is {colour}." for thing, colour in zip(things, colours, strict=True))
      writer.writerows(
        [f"What colour is the {t}?", passage, c, "English"] for t, c in zip(things, colours, strict=True)
      )
