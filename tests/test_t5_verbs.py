"""The commands end to end on a small encoder–decoder: the same as on a decoder-only model, and it learns."""

import json

import numpy as np
import pytest
import t5 as small
from commands import answers_without_targets, records, results, runner
from safetensors import safe_open

from fiat_jax.checkpoints.t5x import write_t5x

pytestmark = pytest.mark.compiled_quickly

COLOURS = {"apple": "red", "plum": "blue", "leaf": "green"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
  return small.write_model(tmp_path_factory.mktemp("t5"), num_layers=2, num_decoder_layers=1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  """What colour is which thing, with a reasoning that is wrong in one of four rows, and choices."""
  folder = tmp_path_factory.mktemp("rows")
  for split, count in (("train", 48), ("validation", 6), ("test", 12)):
    lines = []
    for n in range(count):
      thing = list(COLOURS)[n % 3]
      said = COLOURS[thing] if n % 4 else "none"
      row = {"id": f"{split}{n}", "lang": ("en", "hi")[n % 2], "input": f"what colour is the {thing} {n}?"}
      row |= {"target": COLOURS[thing], "choices": [*COLOURS.values()], "reasoning": f"so the answer is {said}."}
      lines.append(json.dumps(row))
    (folder / f"{split}.jsonl").write_text("\n".join(lines))
  return folder


@pytest.fixture(scope="module")
def fiat(rows, checkpoint):
  """Runs a verb on the rows; returns what it printed."""
  return runner(
    rows, "--model", str(checkpoint), "--batch", "8", "--target_length", "8", "--instruction", "answer: {x}"
  )


@pytest.fixture(scope="module")
def comparison(fiat, tmp_path_factory):
  """FIAT and beta alone, compared once: the folder, and what was printed."""
  folder = tmp_path_factory.mktemp("compared") / "run"
  return folder, fiat("compare", folder, "--recipes", "fiat,beta", *BRIEF)


@pytest.fixture
def compared(comparison):
  return comparison[0]


BRIEF = ("--steps", "2", "--neftune", "1")
RECIPES = ("fine_tuning", "fiat", "full_fine_tuning", "beta", "untuned")


def test_compare_ends_in_a_verdict(comparison):
  compared, printed = comparison
  assert results(compared)["verdict"]["words"] in printed
  assert results(compared)["recipes"][1]["test"]["overall"]["exact_match"] == pytest.approx(75.0)


@pytest.mark.slow
def test_compare_runs_every_recipe(fiat, tmp_path):
  printed = fiat("compare", tmp_path / "run", "--recipes", ",".join(RECIPES), *BRIEF)
  recipes = {result["recipe"]: result for result in results(tmp_path / "run")["recipes"]}
  assert tuple(recipes) == RECIPES and all(result["title"] in printed for result in recipes.values())
  assert recipes["full_fine_tuning"]["tuned_parameters"] > recipes["fiat"]["tuned_parameters"]


@pytest.mark.slow
def test_full_fine_tuning_learns_what_the_rows_say_and_evaluates_the_same(fiat, tmp_path):
  folder = tmp_path / "run"
  words = ["--recipes", "full_fine_tuning", "--steps", "90", "--learning_rate", "0.005", "--validate_every", "90"]
  fiat("train", folder, *words)
  assert results(folder)["test"]["overall"]["exact_match"] >= 90
  first, *_, last = [r for r in map(json.loads, (folder / "metrics.jsonl").open()) if "loss" in r]
  assert last["loss"] < 0.1 * first["loss"]
  predictions = (folder / "predictions" / "test.jsonl").read_bytes()
  fiat("evaluate", folder, splits=("test",))
  assert json.loads((folder / "evaluation_test.json").read_text())["test"] == results(folder)["test"]
  assert (folder / "predictions" / "test.jsonl").read_bytes() == predictions


@pytest.mark.slow
def test_predict_answers_rows_without_targets(compared, rows, tmp_path):
  answers = [answer["prediction"] for answer in answers_without_targets(rows, compared / "fiat", tmp_path)]
  assert answers == [record["prediction"] for record in records(compared / "fiat" / "predictions" / "test.jsonl")]


@pytest.mark.slow
def test_labels_are_chosen_by_likelihood(fiat, tmp_path):
  words = ["--recipes", "untuned", "--labels", "choices", "--metrics", "accuracy"]
  fiat("compare", tmp_path / "run", *words, splits=("test",))
  for record in map(json.loads, (tmp_path / "run" / "untuned" / "predictions" / "test.jsonl").open()):
    assert record["prediction"] == max(record["label_logprobs"], key=record["label_logprobs"].get)
    assert set(record["label_logprobs"]) == set(COLOURS.values())


def test_the_adapter_has_peft_s_names_for_both_stacks(compared):
  described = json.loads((compared / "fiat" / "adapter" / "adapter_config.json").read_text())
  assert described["task_type"] == "SEQ_2_SEQ_LM" and described["target_modules"] == ["q", "v"]
  blocks = {"encoder": ((0, "SelfAttention"),), "decoder": ((0, "SelfAttention"), (1, "EncDecAttention"))}
  wanted = {
    f"base_model.model.{stack}.block.{n}.layer.{layer}.{name}.{kernel}.lora_{matrix}.weight"
    for stack, layers in blocks.items()
    for layer, name in layers
    for n in range(2 if stack == "encoder" else 1)
    for kernel in "qv"
    for matrix in "AB"
  }
  with safe_open(compared / "fiat" / "adapter" / "adapter_model.safetensors", "np") as file:
    assert set(file.keys()) == wanted
    assert all(np.isfinite(file.get_tensor(name)).all() for name in wanted)


def test_validate_shows_a_prompt_as_the_encoder_reads_it(fiat, tmp_path):
  printed = fiat("validate", tmp_path, "--show", "1", "--recipes", "fine_tuning", splits=("test",))
  assert "answer: what colour is the apple 0?</s>⟦red</s>⟧" in printed
  assert "chat template: none, plain text" in printed


@pytest.mark.slow
def test_bench_measures_it(fiat, tmp_path):
  lines = [json.loads(line) for line in fiat("bench", tmp_path).splitlines()]
  assert [line["work"] for line in lines] == ["train", "generate"]
  assert lines[0]["examples_per_s"] > 0 and lines[1]["new_tokens_per_s"] > 0


@pytest.mark.slow
def test_a_t5x_folder_answers_as_the_hugging_face_folder_that_it_was_made_from(fiat, checkpoint, tmp_path):
  module, params = small.load(checkpoint)
  write_t5x(tmp_path / "t5x" / "checkpoint_7", params, module.config, step=7)
  small.write_vocabulary(tmp_path / "t5x")
  answers = []
  for name, model in (("t5x", tmp_path / "t5x" / "checkpoint_7"), ("hugging_face", checkpoint)):
    words = ["--recipes", "untuned", "--model", str(model)]
    fiat("compare", tmp_path / f"{name}_run", *words, splits=("test",))
    answers.append((tmp_path / f"{name}_run" / "untuned" / "predictions" / "test.jsonl").read_bytes())
  assert answers[0] == answers[1]
