"""Comparisons of the recipes that are asked in context, distilled or read an answer alone, on a tiny random model."""

import json
import shlex

import jax
import pytest
from commands import records, results, runner

from fiat_jax import cli
from fiat_jax.verbs import answered

pytestmark = pytest.mark.compiled_quickly

LEARNED = ("lora_all_linear", "copying", "distilled", "distilled_then_fiat")
OTHERS = ("untuned_few_shot", "untuned_cot", "untuned_nearest", "untuned_self_consistency")
IN_CONTEXT = ("untuned_without_reasoning", *OTHERS)
SPLITS = (("train", 16), ("validation", 4), ("test", 6))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
  folder = tmp_path_factory.mktemp("sums")
  for split, count in SPLITS:
    lines = [
      {
        "id": f"{split}{n}",
        "input": f"What is {n} + 1, for {split}?",
        "target": str(n + 1),
        "reasoning": f"Count on from {n}. The answer is {n + 1 if n % 4 else n}.",
      }
      for n in range(count)
    ]
    (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
  return folder


@pytest.fixture(scope="module")
def settings(tiny_checkpoint):
  return ["--model", str(tiny_checkpoint), "--batch", "8", "--steps", "1", "--target_length", "4", "--slots", "4",
          "--reasoning_length", "24", "--shots", "2"]  # fmt: skip


@pytest.fixture(scope="module")
def compared(rows, settings, tmp_path_factory):
  """The comparison's folder, of recipes that learn in other ways than FIAT does."""
  folder = tmp_path_factory.mktemp("learned") / "run"
  runner(rows, *settings)("compare", folder, "--recipes", ",".join(LEARNED))
  return folder


@pytest.mark.slow
def test_what_is_learned_in_other_ways_is_compared(compared):
  found = {result["recipe"]: result for result in results(compared)["recipes"]}
  assert tuple(found) == LEARNED and all(result["test"]["rows"] == 6 for result in found.values())
  assert found["lora_all_linear"]["tuned_parameters"] > 2 * found["distilled"]["tuned_parameters"]
  (answer, *_) = records(compared / "copying" / "predictions" / "test.jsonl")
  assert answer["reasoning"] == "0", "of the reasoning its answer alone is read"
  assert not (compared / "distilled_then_fiat" / "first").exists(), (
    "the comparison's own run of the first is gone on from"
  )


@pytest.mark.slow
def test_a_recipe_that_begins_with_another_trains_that_first(rows, settings, compared, tmp_path):
  runner(rows, *settings)("train", tmp_path / "run", "--recipes", "distilled_then_fiat")
  for file in ("first/metrics.jsonl", "metrics.jsonl"):
    other = compared / ("distilled" if "/" in file else "distilled_then_fiat") / "metrics.jsonl"
    assert (tmp_path / "run" / file).read_bytes() == other.read_bytes()
  first = [record for record in records(tmp_path / "run" / "metrics.jsonl") if "loss" in record]
  assert first[0]["loss"] > 0


@pytest.mark.slow
def test_the_tuned_model_is_asked_in_context(rows, settings, tmp_path, capsys):
  run = runner(rows, *settings)
  run("compare", tmp_path / "run", "--recipes", "untuned_in_context")
  found = {result["recipe"]: result for result in results(tmp_path / "run")["recipes"]}
  assert tuple(found) == IN_CONTEXT and found["untuned_cot"]["shots"] == 2
  asked = records(tmp_path / "run" / "untuned_nearest" / "answers" / "answers-00000.jsonl")
  (session, *answers) = asked
  assert len(answers) == 10 and session["prompt"].count("Count on from") == 2 and "for train?" in session["prompt"]
  assert "The answer is 0." not in session["prompt"], "wrong reasoning is not shown"
  voted = records(tmp_path / "run" / "untuned_self_consistency" / "answers" / "answers-00000.jsonl")
  assert sum(record["kind"] == "answer" for record in voted) == 5 * 10
  before = [(tmp_path / "run" / name / "results.json").stat().st_mtime_ns for name in IN_CONTEXT[1:]]
  run("compare", tmp_path / "run", "--recipes", "untuned_in_context")
  assert before == [(tmp_path / "run" / name / "results.json").stat().st_mtime_ns for name in IN_CONTEXT[1:]]


def test_what_named_recipes_lack_is_told_all_at_once(rows, settings, tmp_path, capsys):
  files = [word for split, _ in SPLITS for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  words = ["compare", *files, *settings, "--model_dir", str(tmp_path / "run"), "--reasoning", "input"]
  assert cli.main([*words, "--recipes", "base_full_fine_tuning,icl,untuned_cot,fine_tuning"]) == 2
  told = capsys.readouterr().err
  assert "base model' needs --base_model: " in told and "'beta, instruction' needs --beta: " in told
  assert "'untuned, CoT' needs exemplars with reasoning that leads to the right answer" in told
  assert not (tmp_path / "run").exists()


def test_all_that_one_recipe_lacks_is_told_and_splits_that_are_missing_too(rows, tmp_path, capsys):
  bare = tmp_path / "bare.jsonl"
  bare.write_text(json.dumps({"input": "1 + 1", "target": "2"}))
  words = ["compare", "--train", str(bare), "--model_dir", str(tmp_path / "run")]
  assert cli.main([*words, "--recipes", "fiat_base,fine_tuning"]) == 2
  told = capsys.readouterr().err
  assert "' needs --base_model: " in told and ", and the big model's reasoning: 1 of 1 rows" in told
  assert "; no --validation rows: give" in told and "; no --test rows: give" in told
  assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_before_any_work_a_table_says_what_it_will_take(rows, settings, tmp_path, capsys):
  files = [word for split, _ in SPLITS for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  words = [
    "compare",
    *files,
    *settings,
    "--model_dir",
    str(tmp_path / "run"),
    "--recipes",
    "fiat,beta,untuned_few_shot",
  ]
  assert cli.main([*words, "--dry_run"]) == 0
  told = capsys.readouterr().err
  assert "| together" in told and "FIAT" in told
  assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.gin"]
  assert cli.main([*words, "--batch", "4", "--dry_run"]) == 0, (
    "nothing has begun that another configuration would mix with"
  )
  capsys.readouterr()
  assert cli.main([*words, "--budget", "0"]) == 0
  found = results(tmp_path / "run")
  assert [result["recipe"] for result in found["recipes"]] == ["beta"] and "over --budget" in capsys.readouterr().err
  more = {"needs": "more than --budget", "command": f"{shlex.join(['fiat', *words])} --budget MINUTES"}
  assert found["not_run"]["fiat"] == {"title": "FIAT", **more}


@pytest.mark.slow
def test_settings_are_searched_on_validation_and_fewer_rows_learned_from(rows, settings, tmp_path, monkeypatch):
  jax.clear_caches()  # else programs of earlier tests may leave no room for these to be kept
  predict, asked = answered.predict, list[str]()

  def counted(bench, split, *more, **how):
    asked.append(split)
    return predict(bench, split, *more, **how)

  monkeypatch.setattr(answered, "predict", counted)
  run, tried = runner(rows, *settings), ("--try_learning_rates", "0.001,0.1", "--try_sizes", "8,99")
  run("compare", tmp_path / "run", "--recipes", "fine_tuning", "--seeds", "0,1", *tried)
  (found,), own = results(tmp_path / "run")["recipes"], tmp_path / "run" / "fine_tuning" / "seed_0"
  assert [trial["learning_rate"] for trial in found["tried"]] == [0.001, 0.1]
  (chosen,) = (trial for trial in found["tried"] if trial.get("chosen"))
  assert chosen["validation"] == max(trial["validation"] for trial in found["tried"])
  trial = tmp_path / "run" / "tried" / "fine_tuning" / f"learning_rate_{chosen['learning_rate']:g}"
  assert "test" not in results(trial) and not (trial / "predictions" / "test.jsonl").exists()
  assert (trial / "metrics.jsonl").read_bytes() == (own / "metrics.jsonl").read_bytes()
  config = (own / "config.gin").read_text()
  assert f"LEARNING_RATE = {chosen['learning_rate']}" in config and str(trial) not in config
  assert [point["rows"] for point in found["sizes"]["points"]] == [8, 16]
  of_fewer = (tmp_path / "run" / "sizes" / "fine_tuning" / "8" / "seed_1" / "config.gin").read_text()
  assert "TRAIN_ROWS = 8" in of_fewer and f"LEARNING_RATE = {chosen['learning_rate']}" in of_fewer
  trained = 5  # two trials, of which one becomes seed 0, seed 1, and both seeds on fewer rows
  assert asked.count("validation") == 2 + trained, "of each seed before training, and after every training"
  assert asked.count("test") == trained - 1
  made = {
    str(file.parent.relative_to(tmp_path / "run")): json.loads(file.read_text())["programs"]["made"]
    for file in (tmp_path / "run").rglob("results.json")
  }
  first = "tried/fine_tuning/learning_rate_0.001"
  assert made[first] > 0 and made["."] >= made[first], "those of the whole comparison"
  assert made["fine_tuning/seed_0"] <= 2, "what answers test, which no trial did"
  later = [place for place in made if place not in (".", first, "fine_tuning/seed_0")]
  assert len(later) == 4 and all(made[place] == 0 for place in later), "seeds, rates and sizes share their programs"


@pytest.mark.slow
def test_rows_asked_about_in_context_are_cut_where_truncate_says_so(rows, settings, tmp_path):
  run, words = runner(rows, *settings), ("--truncate", "input", "--source_length", "44")
  run("compare", tmp_path / "run", "--recipes", "untuned_few_shot", *words)
  (found,) = results(tmp_path / "run")["recipes"]
  assert found["truncated"] == {"validation": 4, "test": 6}
  answered = records(tmp_path / "run" / "untuned_few_shot" / "predictions" / "test.jsonl")
  assert [row["input"] for row in answered] == [f"What is {n} + 1, for test?" for n in range(6)], "as they came"
  (session, *_) = records(tmp_path / "run" / "untuned_few_shot" / "answers" / "answers-00000.jsonl")
  assert "What is" in session["prompt"] and "for validation?\n\nAnswer:" not in session["prompt"]
