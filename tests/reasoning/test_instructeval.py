"""SmolLM2-135M-Instruct, as it came and with an adapter, through samples of all six parts of INSTRUCTEVAL."""

from __future__ import annotations

import json
import pathlib

import pytest
from endpoint import Endpoint, served

from fiat_jax import cli

PARTS = ("mmlu", "bbh", "drop", "crass", "humaneval", "impact")
TASKS = ("mmlu", "mmlu_likelihood", "bbh_few_shot", "drop", "crass", "crass_likelihood", "humaneval", "impact")
CQA = pathlib.Path(__file__).parents[3] / "shared" / "data" / "cqa.train.jsonl"


@pytest.fixture(scope="module")
def samples():
  for name in PARTS:
    assert cli.main(["prepare", name, "--sample", "--quiet"]) == 0


def _evaluate(words: list[str], folder: pathlib.Path, capsys) -> dict[str, dict[str, float]]:
  endpoint = Endpoint(answer=lambda prompt, attempt: f"I give it {1 + len(prompt) % 5}.")
  with served(endpoint) as url:
    asked = ["--allow_code_execution", "--judge", "openai:big", "--judge_url", url]
    asked += ["--judge_store", str(folder / "judge"), "--target_length", "24", "--slots", "4", "--output", str(folder)]
    code = cli.main(["evaluate", "--gin_file", "gin/tasks/instructeval.gin", *words, *asked])
    assert code == 0, capsys.readouterr().err
  assert sum(endpoint.answered.values()) == 6, "three texts, two questions about each"
  found = {task: json.loads((folder / task / "evaluation_test.json").read_text())["test"] for task in TASKS}
  assert all(
    scores.keys() == result["standard_error"].keys() for result in found.values() if (scores := result["overall"])
  )
  assert all(1 <= score <= 5 for score in found["impact"]["overall"].values())
  return {task: result["overall"] for task, result in found.items()}


@pytest.mark.slow
def test_the_model_as_it_came(samples, smollm2_path, tmp_path, monkeypatch, capsys):
  monkeypatch.setenv("OPENAI_API_KEY", "none")
  words = ["--model", str(smollm2_path), "--recipes", "untuned_without_reasoning"]
  found = _evaluate(words, tmp_path / "suite", capsys)
  assert found["humaneval"]["pass_at_1"] in (0, 50, 100)


@pytest.mark.slow
def test_the_model_with_an_adapter(samples, smollm2_path, tmp_path, monkeypatch, capsys):
  if not CQA.exists():
    pytest.skip(f"{CQA} is not there")
  monkeypatch.setenv("OPENAI_API_KEY", "none")
  rows = [
    "--train",
    f"{CQA}[:16]",
    "--validation",
    f"{CQA}[16:20]",
    "--metrics",
    "accuracy",
    "--recipes",
    "fine_tuning",
  ]
  run = ["--model", str(smollm2_path), "--model_dir", str(tmp_path / "run"), "--steps", "2", "--batch", "8"]
  assert cli.main(["train", *rows, *run]) == 0, capsys.readouterr().err
  _evaluate(["--model_dir", str(tmp_path / "run")], tmp_path / "suite", capsys)
