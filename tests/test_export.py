"""A run's best checkpoint goes out, and back in as a model: the same answers, bit for bit where nothing is merged."""

import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import t5 as small
from commands import records, results, runner, write_questions
from safetensors.numpy import load_file
from transformers import ByT5Tokenizer

import fiat_jax
from fiat_jax import cli
from fiat_jax.checkpoints.locate import locate
from fiat_jax.configuration import configure
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models import pretrained
from fiat_jax.models.lora import LoraConfig

pytestmark = pytest.mark.compiled_quickly

UNTUNED = ("--recipes", "untuned", "--gin.untuned/Recipe.reasoning=False")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  return write_questions(tmp_path_factory.mktemp("rows"))


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
  return small.write_model(tmp_path_factory.mktemp("t5"), num_layers=1)


@pytest.fixture(scope="module")
def fiat(rows):
  return runner(rows, "--steps", "2", "--batch", "4", "--target_length", "6")


@pytest.fixture(scope="module")
def of_t5(fiat, t5, tmp_path_factory):
  """Full fine-tuning of an encoder–decoder."""
  folder = tmp_path_factory.mktemp("runs") / "t5"
  fiat("train", folder, "--model", str(t5), "--recipes", "full_fine_tuning", "--steps", "24", "--learning_rate", "0.01")
  return folder


@pytest.fixture(scope="module")
def of_lora(fiat, t5, tmp_path_factory):
  """LoRA on it."""
  folder = tmp_path_factory.mktemp("runs") / "lora"
  fiat("train", folder, "--model", str(t5), "--recipes", "fine_tuning", "--steps", "24", "--learning_rate", "0.05")
  return folder


@pytest.fixture(scope="module")
def of_llama(tiny_checkpoint, tmp_path_factory):
  """What a decoder-only model's run says of itself."""
  folder = tmp_path_factory.mktemp("llama")
  flags = {"MODEL": str(tiny_checkpoint), "RECIPES": "fine_tuning"}
  (folder / "config.gin").write_text(configure([], [], flags).text())
  return folder


def answers_again(fiat, model: pathlib.Path, scratch: pathlib.Path, *words: str) -> pathlib.Path:
  """The predictions of an exported model as it came."""
  fiat("compare", scratch, "--model", str(model), *UNTUNED, *words, splits=("test",))
  return scratch / "untuned" / "predictions" / "test.jsonl"


@pytest.mark.slow
@pytest.mark.parametrize("form", ["huggingface", "t5x"])
def test_a_fully_tuned_t5_comes_back_with_the_same_answers_bit_for_bit(fiat, of_t5, form, tmp_path):
  output = tmp_path / "checkpoint_2"
  assert cli.main(["export", "--model_dir", str(of_t5), "--format", form, "--output", str(output)]) == 0
  again = answers_again(fiat, output, tmp_path / "run", "--gin.untuned/Recipe.instruction=False")
  assert again.read_bytes() == (of_t5 / "predictions" / "test.jsonl").read_bytes()
  assert results(of_t5)["best_step"] > 0, "it is the model as it came"


@pytest.mark.slow
def test_a_byt5_goes_out_for_t5x_and_comes_back(fiat, tmp_path):
  came = small.write_model(tmp_path / "came", num_layers=1, vocab_size=384)
  for file in came.glob("tokenizer*.json"):
    file.unlink()
  ByT5Tokenizer().save_pretrained(came)
  fiat("train", tmp_path / "run", "--model", str(came), "--recipes", "fine_tuning", "--source_length", "200")
  words = ["--model_dir", str(tmp_path / "run"), "--format", "t5x", "--output", str(tmp_path / "checkpoint_2")]
  assert cli.main(["export", *words]) == 0
  found = locate(str(tmp_path / "checkpoint_2"))
  described = pretrained.describe(found.weights, dtype="float32", lora=LoraConfig(), tokenizer=found.tokenizer)
  assert described.tokenizer.fingerprint == Tokenizer.load(came).fingerprint
  embedding = pretrained.load(described)["embedding"]
  np.testing.assert_array_equal(embedding, load_file(came / "model.safetensors")["shared.weight"])


def test_a_merged_adapter_gives_the_adapted_answers(fiat, of_lora, tmp_path):
  output = tmp_path / "merged"
  output.mkdir()  # an empty folder is no obstacle
  assert cli.main(["export", "--model_dir", str(of_lora), "--format", "huggingface", "--output", str(output)]) == 0
  again = records(answers_again(fiat, output, tmp_path / "run"))
  assert results(of_lora)["best_step"] > 0, "B is zero"
  for found, wanted in zip(again, records(of_lora / "predictions" / "test.jsonl"), strict=True):
    assert found["prediction"] == wanted["prediction"]
    assert found["logprob"] == pytest.approx(wanted["logprob"], abs=1e-4)


@pytest.mark.slow
def test_an_adapter_over_quantized_weights_is_merged_into_the_checkpoints_own(fiat, t5, tmp_path, capsys):
  words = ["--model", str(t5), "--recipes", "fine_tuning", "--weights", "nf4", "--steps", "24"]
  fiat("train", tmp_path / "run", *words, "--learning_rate", "0.05")
  words = ["--model_dir", str(tmp_path / "run"), "--format", "huggingface", "--output", str(tmp_path / "out")]
  assert cli.main(["export", *words]) == 0
  assert "was trained on weights in nf4; it is merged into the checkpoint's own" in capsys.readouterr().err
  merged, own = (load_file(folder / "model.safetensors") for folder in (tmp_path / "out", t5))
  changed = {name for name in own if not np.array_equal(merged[name], own[name])}
  assert changed and all(name.endswith((".q.weight", ".v.weight")) for name in changed)
  ranks = {name: np.linalg.matrix_rank(merged[name] - own[name], tol=1e-4) for name in changed}
  assert max(ranks.values()) <= 8, "that is NF4's error, not an adapter"


def test_an_export_carries_its_proof_and_no_path_of_this_machine(of_lora, tmp_path):
  output = tmp_path / "out"
  assert cli.main(["export", "--model_dir", str(of_lora), "--output", str(output)]) == 0
  proof, predictions = records(output / "parity.jsonl"), records(of_lora / "predictions" / "test.jsonl")
  assert [row["id"] for row in proof] == [row["id"] for row in predictions[:5]]
  for row, prediction in zip(proof, predictions, strict=False):
    assert row["text"] == prediction["prediction"] and prediction["input"] in row["prompt"]
    assert len(row["tokens"]) == len(row["logprobs"]) and row["ids"]
    assert row["model_class"] == "AutoModelForSeq2SeqLM"
  compile((output / "check.py").read_text(), "check.py", "exec")
  pieces = json.loads((output / "prompts.json").read_text())["prompt"]
  x = proof[0]["row"]["input"]
  written = json.loads((output / "prompts.json").read_text())
  assert written["x"] == "{input}" and written["columns"] == ["input"]
  assert json.loads((output / "deployment.json").read_text())["settings"]["input"] == "{input}"
  assert (
    "".join(piece if isinstance(piece, str) else {"x": x}[piece["field"]] for piece in pieces) == proof[0]["prompt"]
  )
  card = (output / "README.md").read_text()
  assert f"test, {len(predictions)} rows: f1_squad {results(of_lora)['test']['overall']['f1_squad']:.1f}" in card
  for file in ("README.md", "adapter_config.json", "prompts.json"):
    assert str(tmp_path.parent) not in (output / file).read_text(), file


def test_an_adapter_trained_elsewhere_answers_as_it_did_there(fiat, of_lora, t5, tmp_path):
  """Ours, taken back by its folder alone: bit for bit; half of it twice: the same but for rounding."""
  wanted = of_lora / "predictions" / "test.jsonl"
  assert (
    answers_again(fiat, t5, tmp_path / "one", "--adapter", str(of_lora / "adapter")).read_bytes() == wanted.read_bytes()
  )
  halves = ",".join([f"{of_lora / 'adapter'}:0.5"] * 2)
  for found, row in zip(
    records(answers_again(fiat, t5, tmp_path / "two", "--adapter", halves)), records(wanted), strict=True
  ):
    assert found["prediction"] == row["prediction"]
    assert found["logprob"] == pytest.approx(row["logprob"], abs=1e-4)


def test_a_run_loaded_in_python_answers_as_predict_does(of_lora):
  tuned, wanted = fiat_jax.load(of_lora), records(of_lora / "predictions" / "test.jsonl")
  rows = [{"input": row["input"]} for row in wanted]
  assert tuned.predict(rows) == [row["prediction"] for row in wanted]
  assert tuned.predict(iter(rows[:1])) == [wanted[0]["prediction"]] and tuned.predict([]) == []
  with pytest.raises(UserError, match=r"rows:2: .*'input'"):
    tuned.predict([rows[0], {"input": 7}])
  with pytest.raises(UserError, match="row 1 is a str: give a list of mappings"):
    tuned.predict("rows")  # type: ignore[arg-type]
  with pytest.raises(UserError, match=r"row 1 has a prompt of .* tokens"):
    tuned.predict([{"input": "what is 1 + 1? " * 400}])
  with pytest.raises(UserError, match=r"there is no run: config.gin is missing"):
    fiat_jax.load(of_lora / "checkpoints")


def test_rows_that_are_gone_leave_an_export_without_proof_and_say_so(of_lora, tmp_path, capsys):
  run = shutil.copytree(of_lora, tmp_path / "run")
  text = (run / "config.gin").read_text()
  (run / "config.gin").write_text(re.sub(r"^(TRAIN|VALIDATION|TEST) = .*", r"\1 = 'gone.jsonl'", text, flags=re.M))
  assert cli.main(["export", "--model_dir", str(run), "--output", str(tmp_path / "out")]) == 0
  assert "there will be no parity.jsonl; --test FILE names other rows" in capsys.readouterr().err
  found = {file.name for file in (tmp_path / "out").iterdir()}
  assert found == {"adapter_config.json", "adapter_model.safetensors", "base.json", "README.md", "deployment.json"}


def test_an_adapter_is_copied(of_lora, tmp_path, capsys):
  assert cli.main(["export", "--model_dir", str(of_lora), "--output", str(tmp_path / "out")]) == 0
  assert "PeftModel.from_pretrained" in capsys.readouterr().out
  for file in (of_lora / "adapter").iterdir():
    assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.slow
def test_what_was_a_gguf_file_is_a_folder_with_its_tokenizer(fiat, smollm2_path, tmp_path):
  from fiat_jax.data.tokenizer import Tokenizer

  words = ["--model", str(smollm2_path), "--recipes", "fine_tuning", "--steps", "1"]
  fiat("train", tmp_path / "run", *words)
  words = ["--model_dir", str(tmp_path / "run"), "--format", "huggingface", "--output", str(tmp_path / "out")]
  assert cli.main(["export", *words]) == 0
  assert Tokenizer.load(tmp_path / "out").fingerprint == Tokenizer.load(smollm2_path).fingerprint
  again = records(answers_again(fiat, tmp_path / "out", tmp_path / "again"))
  wanted = records(tmp_path / "run" / "predictions" / "test.jsonl")
  assert [row["prediction"] for row in again] == [row["prediction"] for row in wanted]


REFUSED = {
  ("full", "--format", "peft", "--output", "out"): "there is no adapter: give --format huggingface (or t5x)",
  ("llama", "--format", "t5x", "--output", "out"): "T5X has encoder–decoders alone, and this model is none",
  ("llama", "--format", "gguf", "--output", "out"): "--format 'gguf': give one of peft, huggingface, t5x",
  ("llama", "--format", "peft"): "give --output FOLDER",
  ("llama", "--recipes", "untuned", "--output", "out"): "tunes nothing: there is nothing to export",
  ("llama", "--output", "out"): "holds no adapter: give one recipe's run",
  ("llama", "--output", "full"): "full: is there already: give another folder, or remove it",
}


@pytest.mark.parametrize("words", REFUSED, ids=" ".join)
def test_what_cannot_be_is_refused_with_the_alternative(words, of_t5, of_llama, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "full").mkdir()
  (tmp_path / "full" / "file").write_text("mine")
  run = {"full": of_t5, "llama": of_llama}[words[0]]
  assert cli.main(["export", "--model_dir", str(run), *words[1:]]) == 2
  assert REFUSED[words] in capsys.readouterr().err
  assert [path.name for path in tmp_path.iterdir()] == ["full"]


def test_an_export_refuses_a_row_that_lacks_what_training_read(of_lora, t5, tmp_path):
  assert cli.main(["export", "--model_dir", str(of_lora), "--output", str(tmp_path / "out")]) == 0
  tuned = fiat_jax.load(tmp_path / "out", model=str(t5))
  with pytest.raises(UserError, match=r"rows:1: the row has no field 'input'"):
    tuned.predict([{"inputs": "what is 1 + 1?"}])
