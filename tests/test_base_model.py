"""Recipes of two models in one comparison: the base model is of another family, shape and vocabulary."""

import json
import signal
import weakref

import jax
import pytest
import t5 as small
from commands import answers_without_targets, records, results, runner

from fiat_jax import cli, signals
from fiat_jax.configuration import configure
from fiat_jax.models import pretrained
from fiat_jax.training.journal import Journal
from fiat_jax.workbench import Workbench

pytestmark = pytest.mark.compiled_quickly

BASE = "base_full_fine_tuning"
RECIPES = ("untuned", BASE)
BRIEF = ("--batch", "4", "--steps", "2", "--target_length", "8")
COLOURS = {"apple": "red", "plum": "blue", "leaf": "green"}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  return str(small.write_model(tmp_path_factory.mktemp("base"), num_decoder_layers=1))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  """What colour is which thing, in words that the base model's small vocabulary has."""
  folder = tmp_path_factory.mktemp("rows")
  for split, count in (("train", 12), ("validation", 3), ("test", 6)):
    lines = []
    for n in range(count):
      thing, colour = list(COLOURS.items())[n % 3]
      row = {"id": f"{split}{n}", "input": f"what colour is the {thing} {n}?", "target": colour, "lang": "en"}
      lines.append(json.dumps(row | {"reasoning": f"so the answer is {colour}."}))
    (folder / f"{split}.jsonl").write_text("\n".join(lines))
  return folder


@pytest.fixture(scope="module")
def fiat(rows, tiny_checkpoint):
  return runner(rows, "--model", str(tiny_checkpoint), *BRIEF)


@pytest.fixture(scope="module")
def compared(fiat, base, tmp_path_factory):
  folder = tmp_path_factory.mktemp("compared") / "run"
  fiat("compare", folder, "--recipes", ",".join(RECIPES), "--base_model", base)
  return folder


@pytest.mark.slow
def test_the_base_model_s_parameters_are_tuned(compared, base):
  _, base_run = results(compared)["recipes"]
  assert base_run["title"] == "full fine-tuning, base model"
  assert base_run["tuned_parameters"] == sum(leaf.size for leaf in jax.tree.leaves(small.load(base)[1]))


@pytest.mark.slow
def test_recipes_of_both_models_take_turns(fiat, compared, base, tmp_path):
  names = ["fine_tuning", BASE, "fiat", "full_fine_tuning"]
  fiat("compare", tmp_path / "run", "--recipes", ",".join(names), "--base_model", base)
  recipes = {result["recipe"]: result for result in results(tmp_path / "run")["recipes"]}
  assert list(recipes) == names
  assert recipes["full_fine_tuning"]["tuned_parameters"] > 10 * recipes[BASE]["tuned_parameters"]
  file = f"{BASE}/predictions/test.jsonl"
  assert (tmp_path / "run" / file).read_bytes() == (compared / file).read_bytes()
  before = results(tmp_path / "run" / "fiat")["seconds"]
  fiat("train", tmp_path / "run" / "fiat", "--recipes", "fiat")  # without --base_model it is the same run, and done
  assert results(tmp_path / "run" / "fiat")["seconds"] == before
  assert "# base_model" not in (tmp_path / "run" / "fiat" / "config.gin").read_text()


@pytest.mark.slow
def test_it_is_full_fine_tuning_of_that_model_and_nothing_else(fiat, compared, base, tmp_path):
  fiat("train", tmp_path / "run", "--recipes", "full_fine_tuning", "--model", base)
  for file in ("metrics.jsonl", "predictions/validation.jsonl", "predictions/test.jsonl"):
    assert (tmp_path / "run" / file).read_bytes() == (compared / BASE / file).read_bytes()


@pytest.mark.slow
def test_a_run_depends_on_its_own_model_alone(fiat, compared, base):
  before = (compared / BASE / "results.json").stat().st_mtime_ns
  fiat("train", compared / BASE, "--recipes", BASE, "--base_model", base, "--model", "no_such_model")
  assert (compared / BASE / "results.json").stat().st_mtime_ns == before
  fingerprints = {
    name: [line.split()[1] for line in (compared / name / "config.gin").read_text().splitlines() if line[0] == "#"]
    for name in (".", BASE)
  }
  splits = ["train:", "validation:", "test:"]
  assert fingerprints == {
    ".": [*splits, "model:", "base_model:"],
    BASE: [*splits, "base_model:"],
  }


@pytest.mark.slow
def test_evaluate_and_predict_ask_the_base_model_again(fiat, compared, rows, tmp_path):
  folder = compared / BASE
  predictions = (folder / "predictions" / "test.jsonl").read_bytes()
  answers = answers_without_targets(rows, folder, tmp_path)
  assert [a["prediction"] for a in answers] == [p["prediction"] for p in map(json.loads, predictions.splitlines())]
  words = ["evaluate", "--model_dir", str(folder), "--quiet"]
  assert cli.main(words) == 0
  assert json.loads((folder / "evaluation_test.json").read_text())["test"] == results(folder)["test"]
  assert (folder / "predictions" / "test.jsonl").read_bytes() == predictions


@pytest.mark.slow
def test_a_stopped_comparison_goes_on_with_the_base_model(fiat, compared, base, rows, tmp_path, monkeypatch):
  written = Journal.write

  def write(journal, record):
    written(journal, record)
    if "loss" in record:
      signals._received.append(signal.SIGTERM)

  folder = tmp_path / "run"
  words = ["compare", "--recipes", BASE, "--base_model", base, *BRIEF, "--model_dir", str(folder), "--quiet"]
  words += [f"--{split}={rows / split}.jsonl" for split in ("train", "validation", "test")]
  with monkeypatch.context() as patch:
    patch.setattr(signals, "_received", [])
    patch.setattr(Journal, "write", write)
    assert cli.main(words) == 128 + signal.SIGTERM
  assert not (folder / BASE / "results.json").exists()
  assert cli.main(words) == 0
  for file in ("metrics.jsonl", "predictions/test.jsonl"):
    assert (folder / BASE / file).read_bytes() == (compared / BASE / file).read_bytes()


@pytest.mark.slow
def test_by_default_it_is_compared_where_there_is_one(fiat, base, rows, tmp_path):
  bare = tmp_path / "rows"
  bare.mkdir()
  for split in ("train", "validation", "test"):  # without reasoning five recipes are left out, which takes less time
    lines = [{**row, "reasoning": ""} for row in records(rows / f"{split}.jsonl")]
    (bare / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
  run = runner(bare, "--model", base, "--instruction", "answer: {x}", *BRIEF)
  found = []
  for words in ((), ("--base_model", base), ()):  # also a comparison is widened by it, and goes on without
    run("compare", tmp_path / "run", *words)
    found.append([result["recipe"] for result in results(tmp_path / "run")["recipes"]])
  without = ["fine_tuning", "lora", "full_fine_tuning", "untuned_without_reasoning"]
  assert found == [without, [*without[:3], BASE, without[3]], without]


@pytest.mark.parametrize("verb", ["validate", "train", "compare", "evaluate", "predict", "bench"])
def test_without_one_a_recipe_that_needs_it_is_refused_in_one_line(verb, rows, tmp_path, capsys):
  words = [f"--{split}={rows / split}.jsonl" for split in ("train", "validation", "test")]
  words += ["--recipes", BASE, "--output", str(tmp_path / "answers"), f"--gin.{BASE}/Recipe.adapter=lora"]
  (tmp_path / "run").mkdir()
  (tmp_path / "run" / "config.gin").write_text("")
  assert cli.main([verb, *words, "--model_dir", str(tmp_path / "run")]) == 2
  assert capsys.readouterr().err == (
    "error: the recipe 'full fine-tuning, base model' needs --base_model: a model without instruction tuning, such as "
    "mt5_small beside --model mt0_small\n"
  )
  assert [path.name for path in tmp_path.rglob("*")] == ["run", "config.gin"]


@pytest.mark.slow
def test_a_base_run_knows_no_other_model(compared, capsys):
  assert cli.main(["evaluate", "--model_dir", str(compared / BASE), "--recipes", "untuned"]) == 2
  assert "the recipe 'untuned' needs --model: the model that is tuned, a name" in capsys.readouterr().err


def test_a_base_model_with_a_chat_format_is_asked_in_plain_text(fiat, tiny_checkpoint, tmp_path):
  words = ["--base_model", str(tiny_checkpoint), "--show", "1"]
  told = fiat("validate", tmp_path, "--recipes", BASE, *words, splits=("test",))
  assert "\n  chat template: none, plain text\n" in told and "\nwhat colour is the apple 0?⟦red" in told
  told = fiat("validate", tmp_path, "--recipes", f"full_fine_tuning,{BASE}", *words, splits=("test",))
  assert "<|im_start|>user\nwhat colour is the apple 0?<|im_end|>" in told


def test_validate_counts_tokens_in_both_vocabularies(fiat, base, tiny_checkpoint, tmp_path):
  words = ["--base_model", base, "--source_length", "12"]
  told = fiat("validate", tmp_path, "--recipes", f"fine_tuning,{BASE}", *words, splits=("test",))
  for model in (base, tiny_checkpoint):
    assert f"  in the vocabulary of {model}:\n" in told
    assert f"longer than --source_length 12 in the vocabulary of {model} (" in told
  assert told.count("whole prompt") == 2
  assert fiat("validate", tmp_path, "--recipes", BASE, *words, splits=("test",)).count("whole prompt") == 1
  assert "in the vocabulary" not in fiat("validate", tmp_path, "--recipes", "fiat", *words, splits=("test",))


def test_the_weights_of_one_model_make_room_for_those_of_the_other(rows, tiny_checkpoint, base, monkeypatch):
  words = {split.upper(): str(rows / f"{split}.jsonl") for split in ("train", "validation", "test")}
  bench = Workbench(configure([], [], words | {"MODEL": str(tiny_checkpoint), "BASE_MODEL": base}))
  tuned, untuned = (bench.configuration.recipe(name) for name in ("fiat", BASE))
  bench.prepare([tuned, untuned])
  bench.models.engine(tuned)
  loaded, held = pretrained.load, weakref.ref(bench.models.params(tuned)["embedding"])
  assert bench.models.params(tuned)["embedding"] is held()
  assert bench.shards.of("test", untuned) and held() is not None  # what needs no weights leaves them
  still_held = []

  def load(description):
    still_held.append(held())
    return loaded(description)

  monkeypatch.setattr(pretrained, "load", load)
  assert bench.models.params(untuned)["embedding"].shape[0] == bench.models.of(untuned).module.config.vocab_size
  assert still_held == [None]
