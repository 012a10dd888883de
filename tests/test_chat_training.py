"""Chats from the command line: the assistant's turns are learned and judged by their loss; who learned them answers."""

import json

import pytest
from commands import records, results, runner

from fiat_jax import cli

pytestmark = pytest.mark.compiled_quickly

TURNS = [("Name a colour.", "Red."), ("Another?", "Blue."), ("And one more?", "Green.")]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  folder = tmp_path_factory.mktemp("chats")
  for split, count in (("train", 12), ("validation", 4), ("test", 3)):
    lines = []
    for n in range(count):
      pairs = TURNS[: 1 + n % 3]
      turns = [{"from": who, "value": text} for pair in pairs for who, text in zip(("human", "gpt"), pair, strict=True)]
      lines.append(json.dumps({"id": f"{split}{n}", "conversations": turns}))
    (folder / f"{split}.jsonl").write_text("\n".join(lines))
  return folder


@pytest.fixture(scope="module")
def fiat(rows, tiny_checkpoint):
  words = ["--objective", "chat", "--source_length", "60", "--truncate", "turns", "--batch", "6"]
  return runner(rows, "--model", str(tiny_checkpoint), *words)


@pytest.mark.slow
def test_the_loss_on_the_assistants_turns_falls_and_the_model_answers(fiat, rows, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / "run"
  printed = fiat("train", folder, "--steps", "12", "--learning_rate", "0.05", "--validate_every", "6")
  found = results(folder)
  losses = [record["validation"]["loss"] for record in records(folder / "metrics.jsonl") if "validation" in record]
  assert len(losses) == 3 and losses[-1] < losses[0] - 0.3 and "perplexity" in printed
  assert found["recipe"] == "fine_tuning" and found["test"]["chats"] == 3
  assert found["truncated"]["train"] == 4 and found["left_out"] == {"train": 0, "validation": 0, "test": 0}
  fiat("evaluate", folder, splits=("test",))
  assert json.loads((folder / "evaluation_test.json").read_text())["test"] == found["test"]
  (tmp_path / "asked.jsonl").write_text(json.dumps({"input": "Name a colour."}))
  words = ["--model_dir", str(folder), "--test", "asked.jsonl", "--output", "answers.jsonl", "--target_length", "4"]
  assert cli.main(["predict", *words]) == 0, capsys.readouterr().err
  assert "prediction" in records(tmp_path / "answers.jsonl")[0]


REFUSED = {
  ("train", "--recipes", "fiat"): "reads reasoning, and --objective chat whole chats",
  ("train", "--template", "plain"): "--objective chat needs a chat template",
  ("train", "--truncate", "input"): "--truncate input with --objective chat: give turns",
  ("compare",): "--objective chat: compare sets answers side by side",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_it_has_no_sense_for_is_refused_in_one_line(words, rows, tiny_checkpoint, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  files = [word for split in ("train", "validation") for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  given = ["--model", str(tiny_checkpoint), "--objective", "chat", *files]
  assert cli.main([words[0], *given, "--model_dir", "run", *words[1:]]) == 2
  assert REFUSED[words] in capsys.readouterr().err
