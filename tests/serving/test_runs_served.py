"""Runs and encoder–decoders behind the server: what a run trained answers, and no other."""

from __future__ import annotations

from pathlib import Path

import openai
import pytest
import t5
from bytes_model import write_bytes_model
from commands import records, runner, write_questions
from started import started

from fiat_jax import cli

pytestmark = [pytest.mark.slow, pytest.mark.compiled_quickly]
WORDS = ["--slots", "4", "--queue", "8", "--source_length", "96", "--max_tokens", "16"]


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
  return write_questions(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def run_of(rows: Path, tmp_path_factory):
  """`run_of(model, recipe)`: the folder of a run that has learned to answer otherwise than its model."""

  def train(model: Path, recipe: str) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "mine"
    fiat = runner(rows, "--steps", "12", "--batch", "4", "--target_length", "16", "--learning_rate", "0.05")
    fiat("train", folder, "--model", str(model), "--recipes", recipe)
    return folder

  return train


def questions(rows: Path) -> list[str]:
  return [row["input"] for row in records(rows / "test.jsonl")]


def test_a_run_s_adapter_answers_what_predict_answers(rows, run_of, tmp_path):
  model = write_bytes_model(tmp_path / "model")
  folder = run_of(model, "fine_tuning")
  expected = [row["prediction"] for row in records(folder / "predictions" / "test.jsonl")]
  with started("--model_dir", str(folder), *WORDS) as server:
    client = server.client()
    answers = []
    for question in questions(rows):
      asked = [{"role": "user", "content": question}]
      made = client.chat.completions.create(model="mine", messages=asked, temperature=0, max_tokens=16)
      answers.append(made.choices[0].message.content.strip())
  assert answers == expected
  with started("--model", str(model), *WORDS) as server:
    asked = [{"role": "user", "content": questions(rows)[0]}]
    untuned = server.client().chat.completions.create(model="model", messages=asked, temperature=0, max_tokens=16)
    assert untuned.choices[0].message.content.strip() != expected[0]


def test_an_encoder_decoder_reads_plain_text_and_takes_no_chat(rows, run_of, tmp_path):
  folder = run_of(t5.write_model(tmp_path / "t5", num_layers=1), "full_fine_tuning")
  expected = [row["prediction"] for row in records(folder / "predictions" / "test.jsonl")]
  with started("--model_dir", str(folder), *WORDS) as server:
    client = server.client()
    made = client.completions.create(model=str(folder), prompt=questions(rows), temperature=0, max_tokens=16)
    assert [choice.text.strip() for choice in made.choices] == expected
    streamed = client.completions.create(
      model="mine", prompt=questions(rows)[0], temperature=0, max_tokens=16, stream=True
    )
    assert "".join(chunk.choices[0].text for chunk in streamed).strip() == expected[0]
    with pytest.raises(openai.BadRequestError, match="no chat template: ask /v1/completions"):
      client.chat.completions.create(model="mine", messages=[{"role": "user", "content": "a"}])
    assert "tensorflow" not in Path(f"/proc/{server.process.pid}/maps").read_text()


def test_another_model_than_the_run_s_is_refused(run_of, tmp_path, capsys):
  folder = run_of(t5.write_model(tmp_path / "t5", num_layers=1), "fine_tuning")
  other = t5.write_model(tmp_path / "other", num_layers=1, d_ff=64)
  for words in (["serve", "--port", "0"], ["evaluate"], ["predict", "--output", str(tmp_path / "answers.jsonl")]):
    assert cli.main([*words, "--model_dir", str(folder), "--model", str(other)]) == 2, words
    assert "was trained on another model than --model names now" in capsys.readouterr().err
