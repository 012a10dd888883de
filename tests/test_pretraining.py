"""Pretraining from the command line: on texts without targets, judged by the loss, encoder–decoders alone."""

import json

import pytest
import t5 as small
from commands import records, results, runner

from fiat_jax import cli

pytestmark = pytest.mark.compiled_quickly


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  return small.write_model(tmp_path_factory.mktemp("t5"), num_layers=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  """Texts that say the same in turn, so that what is left out can be told."""
  folder = tmp_path_factory.mktemp("rows")
  words = ["red", "blue", "green", "apple", "plum", "sky", "leaf"]
  for split, count in (("train", 14), ("validation", 4), ("test", 3)):
    texts = [" ".join((words[n % 7 :] + words[: n % 7]) * 4) for n in range(count)]
    (folder / f"{split}.jsonl").write_text(
      "\n".join(json.dumps({"id": f"{n}", "text": text}) for n, text in enumerate(texts))
    )
  return folder


@pytest.fixture(scope="module")
def fiat(rows, checkpoint):
  words = ["--input", "{text}", "--objective", "span_corruption", "--source_length", "32", "--batch", "8"]
  return runner(rows, "--model", str(checkpoint), *words)


@pytest.fixture(scope="module")
def pretrained(fiat, tmp_path_factory):
  """A run of a few epochs: its folder, and what was printed."""
  folder = tmp_path_factory.mktemp("pretrained") / "run"
  return folder, fiat("train", folder, "--steps", "24", "--learning_rate", "0.003", "--validate_every", "8")


@pytest.mark.slow
def test_the_loss_falls_and_chooses_the_checkpoint(pretrained):
  folder, printed = pretrained
  found = results(folder)
  losses = {r["step"]: r["validation"]["loss"] for r in records(folder / "metrics.jsonl") if "validation" in r}
  assert list(losses) == [0, 8, 16, 24] and found["before"]["loss"] == losses[0]
  assert found["best_step"] == min(losses, key=losses.get) and losses[found["best_step"]] < 0.9 * losses[0]
  assert found["validation"]["overall"]["loss"] == losses[found["best_step"]]
  assert found["recipe"] == "full_fine_tuning" and found["test"]["rows"] == 3
  for word in ("loss", "perplexity", "token_accuracy", f"{found['test']['overall']['loss']:.4g}"):
    assert word in printed


@pytest.mark.slow
def test_evaluate_gives_the_loss_of_training_again(fiat, pretrained):
  folder, _ = pretrained
  fiat("evaluate", folder, splits=("test",))
  assert json.loads((folder / "evaluation_test.json").read_text())["test"] == results(folder)["test"]


@pytest.mark.slow
def test_predict_of_such_a_run_says_what_to_do(pretrained, rows, capsys):
  words = ["--model_dir", str(pretrained[0]), "--test", str(rows / "test.jsonl"), "--output", "answers.jsonl"]
  assert cli.main(["predict", *words]) == 2
  assert "span_corruption: predict works with answers" in capsys.readouterr().err


@pytest.mark.slow
def test_an_adapter_can_be_pretrained_too_and_stops_early(fiat, tmp_path):
  words = ["--recipes", "fine_tuning", "--steps", "6", "--validate_every", "1", "--patience", "1"]
  fiat("train", tmp_path / "run", *words, "--learning_rate", "0.5")
  found = results(tmp_path / "run")
  assert found["stopped_early"] and (tmp_path / "run" / "adapter" / "adapter_model.safetensors").exists()


REFUSED = {
  ("train", "--recipes", "fiat"): "reads reasoning, and --objective span_corruption x alone",
  ("train", "--objective", "spans"): "--objective 'spans': give one of answer, span_corruption, chat",
  ("train", "--truncate", "text"): "texts go in pieces, nothing need be cut",
  ("compare",): "--objective span_corruption: compare works with answers",
  ("validate",): "--objective span_corruption: validate works with answers",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_it_has_no_sense_for_is_refused_in_one_line(words, rows, checkpoint, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert REFUSED[words] in refused(rows, checkpoint, words, capsys)


def test_a_decoder_only_model_is_refused(rows, tiny_checkpoint, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert "decoder-only model: give an encoder–decoder" in refused(rows, tiny_checkpoint, ("train",), capsys)


def refused(rows, checkpoint, words, capsys) -> str:
  files = [word for split in ("train", "validation") for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  given = ["--model", str(checkpoint), "--input", "{text}", "--objective", "span_corruption", *files]
  assert cli.main([words[0], *given, "--model_dir", "run", *words[1:]]) == 2
  return capsys.readouterr().err
