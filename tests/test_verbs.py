"""The commands end to end on a tiny random checkpoint: what they leave, what they print, what they compute again."""

import json

import pytest

from fiat_jax import cli

LANGS = ("en", "hi")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  """Three files of rows with choices and reasoning."""
  folder = tmp_path_factory.mktemp("rows")
  for split, count in (("train", 16), ("validation", 4), ("test", 6)):
    lines = [
      json.dumps(
        {
          "id": f"{split}{n}",
          "lang": LANGS[n % 2],
          "input": f"What is {n} + 1?",
          "target": str(n + 1),
          "choices": [str(n), str(n + 1), str(n + 2)],
          "reasoning": f"Count on from {n}. So the answer is {n + 1 if n % 4 else n}.",
        }
      )
      for n in range(count)
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(lines))
  return folder


@pytest.fixture
def fiat(rows, tiny_checkpoint, capsys):
  """Runs a verb on the rows; returns what it printed."""

  def run(verb, folder, *words, splits=("train", "validation", "test")):
    files = [word for split in splits for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
    settings = ["--model", str(tiny_checkpoint), "--batch", "4", "--steps", "2", "--target_length", "8"]
    code = cli.main([verb, *files, *settings, "--model_dir", str(folder), *words])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out

  return run


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
  return tmp_path_factory.mktemp("compared") / "run"


def results(folder):
  return json.loads((folder / "results.json").read_text())


def test_compare_runs_every_recipe_and_shows_one_table(fiat, compared):
  printed = fiat("compare", compared, "--recipes", "fine_tuning,fiat,full_fine_tuning,beta,untuned")
  recipes = {result["recipe"]: result for result in results(compared)["recipes"]}
  assert list(recipes) == ["fine_tuning", "fiat", "full_fine_tuning", "beta", "untuned"]
  assert all(result["title"] in printed for result in recipes.values())
  assert all(result["test"]["rows"] == 6 for result in recipes.values())
  assert recipes["beta"]["test"]["overall"]["exact_match"] == pytest.approx(100 * (2 / 3))
  assert recipes["full_fine_tuning"]["tuned_parameters"] > 100 * recipes["fiat"]["tuned_parameters"]
  assert (compared / "report.md").read_text().startswith("| test, 6 rows")


def test_a_run_folder_holds_what_the_readme_says(compared):
  run = compared / "fiat"
  assert {path.name for path in run.iterdir()} == {
    "adapter", "checkpoints", "config.gin", "events", "loss.svg", "metrics.jsonl", "predictions", "results.json"
  }  # fmt: skip
  assert {path.name for path in (run / "adapter").iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
  first = json.loads((run / "predictions" / "test.jsonl").read_text().splitlines()[0])
  assert {"id", "lang", "group", "input", "target", "prediction", "f1_squad", "exact_match"} <= set(first)
  steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
  assert steps[0] == 0 and steps == sorted(steps)


def test_a_comparison_run_again_computes_nothing_anew_and_may_be_widened(fiat, compared):
  before = (compared / "fiat" / "results.json").stat().st_mtime_ns
  fiat("compare", compared, "--recipes", "fiat,beta")
  assert (compared / "fiat" / "results.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("recipe", ["fiat", "full_fine_tuning"])
def test_evaluate_gives_the_scores_of_training_again(fiat, compared, recipe):
  folder = compared / recipe
  predictions = (folder / "predictions" / "test.jsonl").read_bytes()
  fiat("evaluate", folder, splits=("test",))
  assert json.loads((folder / "evaluation_test.json").read_text())["test"] == results(folder)["test"]
  assert (folder / "predictions" / "test.jsonl").read_bytes() == predictions


def test_the_saved_configuration_runs_again(compared, tmp_path, capsys):
  config = str(compared / "fiat" / "config.gin")
  assert cli.main(["train", "--gin_file", config, "--model_dir", str(tmp_path / "again"), "--quiet"]) == 0
  for file in ("metrics.jsonl", "adapter/adapter_model.safetensors"):
    assert (tmp_path / "again" / file).read_bytes() == (compared / "fiat" / file).read_bytes()


def test_predict_answers_rows_without_targets(compared, rows, tmp_path, capsys):
  bare = tmp_path / "bare.jsonl"
  lines = [json.loads(line) for line in (rows / "test.jsonl").read_text().splitlines()]
  bare.write_text("\n".join(json.dumps({k: row[k] for k in ("id", "input", "reasoning")}) for row in lines))
  output = tmp_path / "answers.jsonl"
  words = ["predict", "--model_dir", str(compared / "fiat"), "--test", str(bare), "--output", str(output)]
  assert cli.main(words) == 0, capsys.readouterr().err
  answers = [json.loads(line) for line in output.read_text().splitlines()]
  scored = [json.loads(line) for line in (compared / "fiat" / "predictions" / "test.jsonl").read_text().splitlines()]
  assert [a["prediction"] for a in answers] == [s["prediction"] for s in scored]
  assert all("target" not in answer and "f1_squad" not in answer for answer in answers)


def test_labels_are_chosen_by_likelihood_and_seeds_are_averaged(fiat, tmp_path):
  fiat(
    "compare", tmp_path / "run", "--recipes", "fiat", "--labels", "choices", "--metrics", "accuracy", "--seeds", "1,2"
  )
  (result,) = results(tmp_path / "run")["recipes"]
  scores = [run["test"]["overall"]["accuracy"] for run in result["seeds"]]
  assert result["test"]["overall"]["accuracy"] == pytest.approx(sum(scores) / 2)
  lines = (tmp_path / "run" / "fiat" / "seed_1" / "predictions" / "test.jsonl").read_text().splitlines()
  for record in map(json.loads, lines):
    assert record["prediction"] == max(record["label_logprobs"], key=record["label_logprobs"].get)


def test_without_reasoning_compare_says_what_it_leaves_out(fiat, tmp_path, rows, tiny_checkpoint, capsys):
  plain = tmp_path / "plain"
  plain.mkdir()
  for split in ("train", "validation", "test"):
    lines = [json.loads(line) for line in (rows / f"{split}.jsonl").read_text().splitlines()]
    (plain / f"{split}.jsonl").write_text("\n".join(json.dumps({**row, "reasoning": ""}) for row in lines))
  words = [word for split in ("train", "validation", "test") for word in (f"--{split}", str(plain / f"{split}.jsonl"))]
  words += ["--model", str(tiny_checkpoint), "--batch", "4", "--steps", "1", "--model_dir", str(tmp_path / "run")]
  assert cli.main(["compare", *words]) == 0
  assert "FIAT and beta alone are left out" in capsys.readouterr().err
  assert [result["recipe"] for result in results(tmp_path / "run")["recipes"]] == ["fine_tuning"]


def test_bench_prints_a_json_line_a_measurement(fiat, tmp_path):
  lines = [json.loads(line) for line in fiat("bench", tmp_path).splitlines()]
  assert [line["work"] for line in lines] == ["train", "generate"]
  assert lines[0]["examples_per_s"] > 0 and lines[1]["new_tokens_per_s"] > 0
