"""The big model asked in context by `fiat compare`: what it is shown, how often it is asked, what that costs."""

import dataclasses
import json
import re

import pytest
from commands import records, results
from endpoint import Endpoint, served

from fiat_jax import cli
from fiat_jax.configuration import configure
from fiat_jax.data.batches import drawn
from fiat_jax.data.rows import Row
from fiat_jax.reasoning import in_context
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import exemplar_search
from fiat_jax.workbench import Workbench

RECIPES = ("icl", "icl_few_shot", "icl_cot", "icl_nearest", "icl_self_consistency")
SPLITS = (("train", 6), ("validation", 4), ("test", 12))


@pytest.fixture
def rows(tmp_path):
  for split, count in SPLITS:
    lines = [
      {"id": f"{split}{n}", "input": f"What is {n} + 1, of {split}?", "target": str(n + 1),
       "reasoning": f"Count on. The answer is {n + 1 if n else 7}."}
      for n in range(count)
    ]  # fmt: skip
    (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))
  return tmp_path


def told(prompt: str, attempt: int) -> str:
  """Right about even numbers; it reasons where exemplars do."""
  number = int(re.findall(r"What is (\d+)", prompt)[-1])
  answer = str(number + 1 - number % 2)
  return f"Count on. The answer is {answer}." if "Reasoning:" in prompt else answer


def words(rows, url, *more):
  files = [word for split, _ in SPLITS for word in (f"--{split}", str(rows / f"{split}.jsonl"))]
  store = ["--store", str(rows / "S"), "--price", "1000,1000", "--beta", "openai:big", "--beta_url", url]
  return ["compare", *files, *store, "--exemplars", str(rows / "train.jsonl"), "--shots", "2", *more]


@pytest.mark.slow
def test_the_big_model_is_asked_once_about_each_row_and_its_price_is_told(rows, monkeypatch, capsys):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  endpoint, folder = Endpoint(answer=told), rows / "run"
  with served(endpoint) as url:
    run = words(rows, url, "--recipes", ",".join(RECIPES), "--model_dir", str(folder))
    assert cli.main([*run, "--dry_run"]) == 0 and not endpoint.bodies
    assert "| beta, CoT" in capsys.readouterr().err
    assert cli.main(run) == 0
    asked = len(endpoint.bodies)
    assert 16 * (3 + 5) < asked < 16 * (4 + 5), "five times where votes count, and never twice with the same exemplars"
    assert cli.main(run) == 0 and len(endpoint.bodies) == asked
  found = {result["recipe"]: result for result in results(folder)["recipes"]}
  assert all(found[name]["test"]["overall"]["exact_match"] == 50 for name in RECIPES)
  assert all(0 < found[name]["latency"]["p50"] <= found[name]["latency"]["p95"] < 5 for name in RECIPES)
  price = lambda name: found[name]["reasoning_cost"]  # noqa: E731
  assert 0 < price("icl") < price("icl_few_shot") < price("icl_cot") and price("icl_self_consistency") > price(
    "icl_cot"
  )
  prompts = [body["messages"][0]["content"] for body in endpoint.bodies]
  shown = [prompt for prompt in prompts if "of train" in prompt]
  assert len(shown) == len(prompts) - 16 and all(prompt.count("of train") == 2 for prompt in shown)
  assert not any("The answer is 7." in prompt for prompt in prompts), "wrong reasoning is not shown"
  (answer, *_) = records(folder / "icl_cot" / "predictions" / "test.jsonl")
  assert answer["reasoning"] == "Count on. The answer is 1." and answer["prediction"] == "1"


def by_shots(prompt: str, attempt: int) -> str:
  """Right where it is shown three rows."""
  number = int(re.findall(r"What is (\d+)", prompt)[-1])
  return str(number + 1) if prompt.count("of train") == 3 else "none"


def test_exemplars_are_chosen_on_validation_alone(rows, monkeypatch, capsys):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  endpoint, folder = Endpoint(answer=by_shots), rows / "run"
  with served(endpoint) as url:
    run = words(rows, url, "--recipes", "icl_few_shot", "--model_dir", str(folder), "--try_shots", "1,3,5")
    assert cli.main([*run, "--dry_run"]) == 0 and not endpoint.bodies
    assert cli.main(run) == 0
    prompts = [body["messages"][0]["content"] for body in endpoint.bodies]
    tested = [prompt for prompt in prompts if prompt.rstrip().rpartition("What is")[2].count("of test")]
    assert len(prompts) == 3 * 4 + 12 and len(tested) == 12, "test with what was chosen, and validation not again"
    assert all(prompt.count("of train") == 3 for prompt in tested)
    before = len(endpoint.bodies)
    assert cli.main([*run, "--try_shots", "3,1"]) == 0 and len(endpoint.bodies) == before
  (found,) = results(folder)["recipes"]
  assert found["test"]["overall"]["exact_match"] == 100 and found["shots"] == 3
  assert found["tried"] == [{"shots": 3, "validation": 100.0, "chosen": True}, {"shots": 1, "validation": 0.0}]
  assert "shots 3" in (folder / "report.html").read_text()


def test_a_recipe_with_a_number_of_exemplars_of_its_own_may_still_choose_which():
  settings = configure([], [], {"TRY_SHOTS": "1,2", "TRY_SHOT_CHOICES": "first,random"}).settings
  own = Recipe(title="four", adapter="none", in_context="model", exemplars="shown", overrides={"SHOTS": 4})
  assert exemplar_search.trials(settings, own) == [{"shot_choice": "first"}, {"shot_choice": "random"}]
  assert len(exemplar_search.trials(settings, dataclasses.replace(own, overrides={}))) == 4


def test_exemplars_are_of_the_rows_that_others_learn_from(rows):
  files = {split.upper(): str(rows / f"{split}.jsonl") for split in ("train", "validation", "test")}
  bench = Workbench(configure([], [], {**files, "TRAIN_ROWS": "3", "SHOTS": "16"}))
  recipe = bench.configuration.recipe("untuned_few_shot")
  learned = drawn(len(bench.rows["train"]), 3, bench.settings.split_seed)
  found = in_context.exemplars_of(in_context.settings_of(bench.settings, recipe), recipe, bench.rows)
  assert found and {row.x for row in found.candidates} == {bench.rows["train"][n].x for n in learned}


@pytest.mark.parametrize(
  ("more", "told"),
  [
    (("--try_shots", "0"), "--try_shots 0: give numbers above 0"),
    (("--try_shot_choices", "nearest"), "give some of first, random, language (icl_nearest shows the nearest)"),
  ],
)
def test_exemplars_that_cannot_be_tried_are_refused(rows, more, told, capsys):
  assert cli.main(words(rows, "http://127.0.0.1:9/v1", "--recipes", "icl_few_shot", *more)) == 2
  assert told in capsys.readouterr().err


@pytest.mark.slow
def test_an_endpoint_that_was_not_named_is_asked_only_up_to_a_cost_that_was(rows, monkeypatch, capsys):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  with served(Endpoint(answer=told)) as url:
    run = words(rows, url, "--model_dir", str(rows / "run"), "--dry_run")
    for more, asks in (
      ((), False),
      (("--max_cost", "9"), True),
      (("--price", "0,0"), True),
      (("--budget", "9,9"), True),
    ):
      assert cli.main([*run, *more]) == 0
      said = capsys.readouterr().err
      assert ("| beta, CoT" in said) is asks
      assert ("beta, CoT: not run: need --max_cost: it asks openai:big" in said) is not asks


def test_money_in_the_budget_keeps_what_is_dear_out(rows, monkeypatch, capsys):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  endpoint = Endpoint(answer=told)
  with served(endpoint) as url:
    run = words(rows, url, "--recipes", "icl,icl_self_consistency", "--model_dir", str(rows / "run"))
    assert cli.main([*run, "--budget", "60,2"]) == 0
  assert len(endpoint.bodies) == 16 and "over --budget" in capsys.readouterr().err


def test_money_that_was_spent_beyond_the_forecast_is_taken_off_the_budget(rows, monkeypatch, capsys):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  endpoint = Endpoint(answer=told, tokens=20)
  with served(endpoint) as url:
    run = words(rows, url, "--recipes", "icl,icl_few_shot", "--model_dir", str(rows / "run"))
    assert cli.main([*run, "--budget", "60,8"]) == 0
  assert len(endpoint.bodies) == 16 and endpoint.cost(1000, 1000) > 8
  assert results(rows / "run")["not_run"]["icl_few_shot"]["needs"] == "more than --budget"


def test_money_in_the_budget_wants_a_price(rows, monkeypatch, capsys):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  endpoint = Endpoint(answer=told)
  with served(endpoint) as url:
    run = words(rows, url, "--recipes", "icl", "--model_dir", str(rows / "run"))
    run[run.index("--price") + 1] = ""
    assert cli.main([*run, "--budget", "60,0.5"]) == 2 and not endpoint.bodies
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "--budget" in line]
    assert "give --price INPUT,OUTPUT" in line
    assert cli.main([*run, "--dry_run"]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("| beta, instruction")]
    assert [cell.strip() for cell in line.split("|")[3:5]] == ["?", "?"]


def test_a_cap_on_what_is_asked_in_context_needs_a_price(rows, monkeypatch, capsys):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  endpoint = Endpoint(answer=told)
  with served(endpoint) as url:
    run = words(rows, url, "--recipes", "icl,icl_self_consistency", "--model_dir", str(rows / "run"))
    assert cli.main([*run, "--price=", "--max_cost", "5"]) == 2
  assert not endpoint.bodies and "--max_cost 5 cannot be kept without the price" in capsys.readouterr().err


def test_of_choices_an_answer_in_context_is_the_one_that_it_names(rows, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "k")
  labels = [str(n) for n in range(1, 14)]
  with served(Endpoint(answer=lambda prompt, attempt: f"I would say {told(prompt, attempt)}.")) as url:
    run = words(rows, url, "--recipes", "icl,icl_cot", "--model_dir", str(rows / "run"), "--labels", ",".join(labels))
    assert cli.main([*run, "--metrics", "accuracy"]) == 0
  assert [found["test"]["overall"]["accuracy"] for found in results(rows / "run")["recipes"]] == [50, 50]
  answers = records(rows / "run" / "icl" / "predictions" / "test.jsonl")
  assert {answer["prediction"] for answer in answers} <= set(labels)


def test_a_row_that_is_asked_about_is_no_exemplar():
  row = lambda n, group: Row(  # noqa: E731
    id=str(n),
    lang="en",
    group=group,
    x=f"x{n}",
    targets=("t",),
    reasoning="The answer is t.",
    labels=(),
    line=1,
    fields={},
  )
  splits = {"train": [row(1, "a"), row(2, "b"), row(3, "c")], "validation": [row(3, "d")], "test": [row(4, "b")]}
  recipe = Recipe(adapter="none", in_context="beta", exemplars="shown", thinks=True)
  settings = in_context.settings_of(configure([], [], {}).settings, recipe)
  shown = in_context.exemplars_of(settings, recipe, splits)
  assert shown and [candidate.id for candidate in shown.candidates] == ["1"]
