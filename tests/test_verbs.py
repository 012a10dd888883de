"""The commands end to end on a tiny random checkpoint: what they leave, what they print, what they compute again."""

import html
import json
import pathlib
import shlex
from typing import NamedTuple

import pytest
from commands import answers_without_targets, pages, records, results, runner

from fiat_jax import cli

pytestmark = pytest.mark.compiled_quickly

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


@pytest.fixture(scope="module")
def fiat(rows, tiny_checkpoint):
  return runner(rows, "--model", str(tiny_checkpoint), "--batch", "4", "--steps", "2", "--target_length", "8")


RECIPES = ("fine_tuning", "fiat", "full_fine_tuning", "beta", "untuned")


class Compared(NamedTuple):
  folder: pathlib.Path
  printed: str


@pytest.fixture(scope="module")
def comparison(fiat, tmp_path_factory) -> Compared:
  """Every recipe, compared once."""
  folder = tmp_path_factory.mktemp("compared") / "run"
  return Compared(folder, fiat("compare", folder, "--recipes", ",".join(RECIPES)))


@pytest.fixture
def compared(comparison):
  return comparison.folder


def test_compare_runs_every_recipe_and_shows_one_table(comparison):
  compared, printed = comparison
  recipes = {result["recipe"]: result for result in results(compared)["recipes"]}
  assert tuple(recipes) == RECIPES
  assert all(result["title"] in printed for result in recipes.values())
  assert all(result["test"]["rows"] == 6 for result in recipes.values())
  assert recipes["beta"]["test"]["overall"]["exact_match"] == pytest.approx(100 * (2 / 3))
  assert recipes["full_fine_tuning"]["tuned_parameters"] > 100 * recipes["fiat"]["tuned_parameters"]
  assert (compared / "report.md").read_text().startswith("| test, 6 rows")


def test_compare_ends_in_a_verdict(comparison):
  compared, printed = comparison
  found, recipes = results(compared)["verdict"], results(compared)["recipes"]
  assert found["outcome"] in ("clear", "indistinguishable", "too little data") and found["metric"] == "f1_squad"
  assert found["words"] in printed and found["words"] in (compared / "report.md").read_text()
  assert found["pick"] == max(recipes, key=lambda result: result["validation"]["overall"]["f1_squad"])["recipe"]
  assert len(found["pairs"]) == 10 and found["interval"][0] <= found["difference"] <= found["interval"][1]
  for result in recipes:
    low, high = result["interval"]
    assert 0 <= low <= result["test"]["overall"]["f1_squad"] <= high <= 100
  assert (compared / "beta" / "predictions" / "validation.jsonl").exists()


def test_a_run_folder_holds_what_the_readme_says(compared):
  run = compared / "fiat"
  assert {path.name for path in run.iterdir()} == {
    "adapter", "checkpoints", "config.gin", "events", "loss.svg", "metrics.jsonl", "predictions", "results.json",
    "without_reasoning",
  }  # fmt: skip
  adapter = {path.name for path in (run / "adapter").iterdir()}
  assert adapter == {"adapter_config.json", "adapter_model.safetensors", "base.json"}
  first = json.loads((run / "predictions" / "test.jsonl").read_text().splitlines()[0])
  assert {"id", "lang", "group", "input", "target", "prediction", "f1_squad", "exact_match"} <= set(first)
  steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
  assert steps[0] == 0 and steps == sorted(steps)


def test_compare_leaves_a_page_and_what_it_is_made_from(comparison):
  compared, printed = comparison
  record = results(compared)
  shown = html.unescape((compared / "report.html").read_text())
  assert record["verdict"]["words"] in shown and "report.html shows it" in printed
  assert record["to_come"] == [] and record["rows"]["train"] == {"en": 8, "hi": 8}
  recipes = {result["recipe"]: result for result in record["recipes"]}
  assert all(result["test"]["rows"] == 6 for result in record["recipes"])
  assert recipes["fiat"]["switches"]["reasoning"] and not recipes["fine_tuning"]["switches"]["reasoning"]
  assert recipes["fiat"]["curve"][0]["step"] == 0 and "f1_squad" in recipes["fiat"]["curve"][0]
  assert [name for name, result in recipes.items() if "without_reasoning" in result] == ["fiat"]
  assert set(recipes["untuned"]["answer_seconds"]) == {"validation", "test"} and "answer_seconds" not in recipes["beta"]
  (answer, *_) = records(compared / "fiat" / "predictions" / "test.jsonl")
  assert answer["reasoning"].startswith("Count on from 0.")
  assert "reasoning" not in records(compared / "fine_tuning" / "predictions" / "test.jsonl")[0]


def test_a_comparison_run_again_computes_nothing_anew_and_may_be_widened(fiat, compared):
  kept = [compared / name for name in ("fiat/results.json", "fiat/without_reasoning/results.json")]
  kept += [compared / "untuned" / name for name in ("results.json", "predictions/test.jsonl")]
  before = [file.stat().st_mtime_ns for file in kept]
  (compared / "report.html").unlink()
  assert "--- one row of" not in fiat("compare", compared, "--recipes", "fiat,beta,untuned")
  assert [file.stat().st_mtime_ns for file in kept] == before
  assert (compared / "report.html").exists(), "made again"


@pytest.mark.parametrize("recipe", ["fiat", "full_fine_tuning"])
def test_evaluate_gives_the_scores_of_training_again(fiat, compared, recipe):
  folder = compared / recipe
  predictions = (folder / "predictions" / "test.jsonl").read_bytes()
  fiat("evaluate", folder, splits=("test",))
  assert json.loads((folder / "evaluation_test.json").read_text())["test"] == results(folder)["test"]
  assert (folder / "predictions" / "test.jsonl").read_bytes() == predictions


def test_evaluate_on_other_rows_leaves_the_answers_that_the_comparison_stands_on(fiat, compared, rows):
  folder = compared / "fine_tuning"
  before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
  place = fiat("evaluate", folder, "--test", f"{rows / 'test.jsonl'}[:4]", splits=()).split()[-4]
  assert pathlib.Path(place).is_relative_to(folder / "evaluations") and len(records(pathlib.Path(place))) == 4
  assert (pathlib.Path(place).parents[1] / "evaluation_test.json").exists()
  assert {file: file.read_bytes() for file in before} == before
  fiat("compare", compared, "--recipes", ",".join(RECIPES))


def test_predict_answers_all_rows_of_data(compared, rows, tmp_path, capsys):
  words = ["--model_dir", str(compared / "fine_tuning"), "--data", str(rows / "train.jsonl")]
  assert cli.main(["predict", *words, "--output", str(tmp_path / "answers.jsonl")]) == 0, capsys.readouterr().err
  assert [answer["id"] for answer in records(tmp_path / "answers.jsonl")] == [f"train{n}" for n in range(16)]


def test_the_saved_configuration_runs_again(compared, tmp_path, capsys):
  config = str(compared / "fiat" / "config.gin")
  assert cli.main(["train", "--gin_file", config, "--model_dir", str(tmp_path / "again"), "--quiet"]) == 0
  for file in ("metrics.jsonl", "adapter/adapter_model.safetensors"):
    assert (tmp_path / "again" / file).read_bytes() == (compared / "fiat" / file).read_bytes()


def test_predict_answers_rows_without_targets(compared, rows, tmp_path):
  answers = answers_without_targets(rows, compared / "fiat", tmp_path)
  scored = records(compared / "fiat" / "predictions" / "test.jsonl")
  assert [a["prediction"] for a in answers] == [s["prediction"] for s in scored]
  assert all("target" not in answer and "f1_squad" not in answer for answer in answers)


@pytest.mark.slow
def test_beam_search_gives_likelier_answers_than_greedy(fiat, tmp_path):
  logprobs = []
  for beams in ("1", "4"):
    words = ["--recipes", "untuned", "--beams", beams, "--length_penalty", "0"]
    fiat("compare", tmp_path / beams, *words, splits=("test",))
    answers = records(tmp_path / beams / "untuned" / "predictions" / "test.jsonl")
    logprobs.append([answer["logprob"] for answer in answers])
  greedy, searched = map(sum, logprobs)
  assert searched > greedy + 0.1


@pytest.mark.slow
def test_labels_are_chosen_by_likelihood_and_seeds_are_averaged(fiat, tmp_path, monkeypatch):
  shown = pages(monkeypatch, tmp_path / "run")
  fiat(
    "compare", tmp_path / "run", "--recipes", "fiat", "--labels", "choices", "--metrics", "accuracy", "--seeds", "1,2"
  )
  assert [one["to_come"] for one in shown] == [["FIAT (1 of 2 runs done)"], []], "a page a run"
  assert [[run["seed"] for run in one["recipes"][0]["seeds"]] for one in shown] == [[1], [1, 2]]
  assert shown[0]["recipes"][0]["interval"] and "FIAT (1 of 2" not in (tmp_path / "run" / "report.md").read_text()
  (result,) = results(tmp_path / "run")["recipes"]
  scores = [run["test"]["overall"]["accuracy"] for run in result["seeds"]]
  assert result["test"]["overall"]["accuracy"] == pytest.approx(sum(scores) / 2)
  assert result["interval"][0] <= result["test"]["overall"]["accuracy"] <= result["interval"][1]
  lines = (tmp_path / "run" / "fiat" / "seed_1" / "predictions" / "test.jsonl").read_text().splitlines()
  for record in map(json.loads, lines):
    assert record["prediction"] == max(record["label_logprobs"], key=record["label_logprobs"].get)


@pytest.mark.slow
def test_without_reasoning_compare_says_what_it_leaves_out(fiat, tmp_path, rows, tiny_checkpoint, capsys):
  plain = tmp_path / "plain"
  plain.mkdir()
  for split in ("train", "validation", "test"):
    lines = [json.loads(line) for line in (rows / f"{split}.jsonl").read_text().splitlines()]
    (plain / f"{split}.jsonl").write_text("\n".join(json.dumps({**row, "reasoning": ""}) for row in lines))
  words = [word for split in ("train", "validation", "test") for word in (f"--{split}", str(plain / f"{split}.jsonl"))]
  words += ["--model", str(tiny_checkpoint), "--batch", "4", "--steps", "1", "--model_dir", str(tmp_path / "run")]
  assert cli.main(["compare", *words]) == 0
  captured = capsys.readouterr()
  assert (
    "FIAT; beta alone; untuned: not run: need the big model's reasoning: 26 of 26 rows have none in the column"
  ) in captured.err
  assert "distilled CoT: not run: needs the big model's reasoning: 16 of 16 rows" in captured.err
  assert "beta, instruction; beta, few shots; beta, CoT: not run: need --beta: a big model that can be" in captured.err
  assert "full fine-tuning, base model: not run: needs --base_model: a model without" in captured.err
  assert "test: 6 rows in 6 groups can show" in captured.err
  found = results(tmp_path / "run")
  ran = ["fine_tuning", "lora", "full_fine_tuning", "untuned_without_reasoning"]
  assert [result["recipe"] for result in found["recipes"]] == ran and found["verdict"]["recipe"] in ran
  assert [result["learning_rate"] for result in found["recipes"][:3]] == [0.001, 0.001, 0.0001]
  whole = shlex.join(["fiat", "compare", *words])
  ladder = {"title": "full fine-tuning, base model", "needs": "--base_model", "command": f"{whole} --base_model NAME"}
  assert found["not_run"]["base_full_fine_tuning"] == ladder and f"to run it: {ladder['command']}" in captured.err
  files = " ".join(words[:6])
  asked = f"fiat annotate {files} --beta openai:NAME --beta_url URL --store reasoning && {whole} --store reasoning"
  assert found["not_run"]["fiat"]["command"] == asked and f"to run them: {asked}" in captured.err


def test_without_validation_rows_there_is_no_verdict(fiat, tmp_path):
  printed = fiat("compare", tmp_path / "run", "--recipes", "beta,untuned", splits=("test",))
  assert "Give --validation FILE" in printed and results(tmp_path / "run")["verdict"] is None


def test_bench_prints_a_json_line_a_measurement(fiat, tmp_path):
  lines = [json.loads(line) for line in fiat("bench", tmp_path).splitlines()]
  assert [line["work"] for line in lines] == ["train", "generate"]
  assert lines[0]["examples_per_s"] > 0 and lines[1]["new_tokens_per_s"] > 0


@pytest.mark.slow
def test_one_file_is_split_the_same_for_every_verb_and_cut_where_asked(tmp_path, tiny_checkpoint, capsys):
  table = tmp_path / "my.csv"
  lines = [f"What is {n}?,{'so it is ' * (40 if n % 2 else 1)},{n},English\n" for n in range(20)]
  table.write_text("question,passage,answer,language\n" + "".join(lines))
  words = ["--data", str(table), "--target", "answer", "--lang", "language", "--model", str(tiny_checkpoint)]
  words += ["--input", "{passage}\\n\\n{question}", "--source_length", "90", "--truncate", "passage", "--steps", "1"]
  run = tmp_path / "run"
  words += ["--recipes", "fine_tuning"]
  assert cli.main(["compare", *words, "--target_length", "4", "--model_dir", str(run)]) == 0
  kept = json.loads((run / "fine_tuning" / "splits.json").read_text())["splits"]
  assert {name: len(ids) for name, ids in kept.items()}.keys() == {"train", "validation", "test"}
  (result,) = results(run)["recipes"]
  assert sum(result["truncated"].values()) == 10 and sum(map(len, kept.values())) == 20
  answered = [json.loads(line) for line in (run / "fine_tuning" / "predictions" / "test.jsonl").open()]
  assert [record["id"] for record in answered] == kept["test"] and {record["lang"] for record in answered} == {"en"}
  assert cli.main(["evaluate", "--model_dir", str(run / "fine_tuning")]) == 0
  table.write_text(table.read_text().replace("it is", "it was"))
  assert cli.main(["evaluate", "--model_dir", str(run / "fine_tuning")]) == 2
  assert "the rows of test are not those that" in capsys.readouterr().err
