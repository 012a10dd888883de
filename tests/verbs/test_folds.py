"""Comparisons over folds: every row is tested once, groups stay whole, what is said is about all rows."""

import json
import re

import numpy as np
import pytest
from commands import pages, records, results

from fiat_jax import cli
from fiat_jax.data import splits
from fiat_jax.data.rows import Layout, read_rows
from fiat_jax.evaluation.statistics import Scored, holm, resample
from fiat_jax.evaluation.verdict import Candidate, decide
from fiat_jax.recipe import Recipe
from fiat_jax.verbs import folded

pytestmark = pytest.mark.compiled_quickly

ROWS, GROUPS = 36, 9


@pytest.fixture(scope="module")
def data(tmp_path_factory):
  lines = [
    {
      "id": f"row{n}",
      "input": f"What is {n} + 1?",
      "target": str(n + 1),
      "group": f"group{n % GROUPS}",
      "lang": ("en", "hi")[n % 2],
      "reasoning": f"Count on from {n}. The answer is {n + 1 if n % 4 else n}.",
    }
    for n in range(ROWS)
  ]
  file = tmp_path_factory.mktemp("data") / "rows.jsonl"
  file.write_text("\n".join(map(json.dumps, lines)))
  return str(file)


def test_every_row_is_tested_once_and_no_group_is_split(data):
  layout = Layout(target="target", lang="lang", group="group")
  tested = []
  for fold in splits.folds(data, 4, seed=3):
    rows = {split: list(read_rows(path, layout)) for split, path in fold.items()}
    assert sorted(row.id for found in rows.values() for row in found) == sorted(f"row{n}" for n in range(ROWS))
    groups = [{row.group for row in found} for found in rows.values()]
    assert not groups[0] & groups[1] and not groups[1] & groups[2] and not groups[0] & groups[2]
    tested += [row.id for row in rows["test"]]
  assert sorted(tested) == sorted(f"row{n}" for n in range(ROWS)), "each once"


def test_with_folds_the_picks_pairs_are_corrected_too():
  generator, names = np.random.default_rng(0), ("a", "b", "c")
  scores = {
    name: 100.0 * (generator.random((1, 60)) < share) for name, share in zip(names, (0.9, 0.6, 0.5), strict=True)
  }
  drawn = resample(Scored(scores=scores, langs=["en"] * 60, groups=[str(n) for n in range(60)]))
  candidates = [Candidate(name=name, recipe=Recipe(title=name), validation=9.0 - n) for n, name in enumerate(names)]
  plain, folded = (decide(candidates, drawn, "m", apart=apart) for apart in (True, False))
  single = [decide([candidates[m], candidates[n]], drawn, "m").p for m, n in ((0, 1), (0, 2), (1, 2))]
  assert [pair.p for pair in folded.pairs] == pytest.approx(holm(single))
  assert [pair.p for pair in plain.pairs] == pytest.approx(single), "of those without the pick there is but one"


def test_what_the_big_model_took_is_the_mean_over_the_rows_of_all_folds():
  took = {"reasoning_cost": 2.0, "reasoning_seconds": 30.0, "reasoning_latency": {"p50": 1.0, "p95": 4.0}}
  dear = {"reasoning_cost": 5.0, "reasoning_seconds": 90.0, "reasoning_latency": {"p50": 4.0, "p95": 7.0}}
  found = folded.of_beta([{"test": {"rows": 20}, **took}, {"test": {"rows": 10}, **dear}])
  assert found == {"reasoning_cost": 3.0, "reasoning_seconds": 50.0, "reasoning_latency": {"p50": 2.0, "p95": 5.0}}
  assert folded.of_beta([{"test": {"rows": 20}, **took}, {"test": {"rows": 10}}]) == {}, "known of some rows alone"


def test_what_folds_tried_and_learned_is_their_mean():
  trial = lambda rate, score, **more: {"learning_rate": rate, "validation": score, "best_step": 4, **more}  # noqa: E731
  folds = [[trial(0.1, 20.0, chosen=True), trial(0.2, 10.0)], [trial(0.1, 30.0), trial(0.2, 40.0, chosen=True)]]
  assert folded.tried([{"tried": one} for one in folds])["tried"] == [
    {"learning_rate": 0.1, "validation": 25.0, "best_step": 4.0, "chosen_in": 1},
    {"learning_rate": 0.2, "validation": 25.0, "best_step": 4.0, "chosen_in": 1},
  ]
  assert folded.tried([{"tried": folds[0]}, {}]) == {}
  points = [{"step": step, "exact_match": 10.0 * step, "auc_pr": None} for step in range(3)]
  found = folded.over_training([points, [{"step": 0, "exact_match": 2.0}, {"step": 2, "exact_match": 6.0}]])
  assert found == [{"step": 0, "exact_match": 1.0}, {"step": 2, "exact_match": 13.0}], "the steps of both"


@pytest.mark.parametrize(
  ("words", "told"),
  [(("--folds", "2"), "give 3 or more"), (("--folds", "3", "--test", "other.jsonl"), "deals the rows of --data")],
)
def test_folds_that_cannot_be_are_refused(data, words, told, capsys):
  assert cli.main(["compare", "--data", data, *words]) == 2
  assert told in capsys.readouterr().err


@pytest.mark.slow
def test_a_comparison_over_folds_answers_every_row(data, tiny_checkpoint, tmp_path, capsys, monkeypatch):
  words = ["compare", "--data", data, "--model", str(tiny_checkpoint), "--batch", "8", "--steps", "1", "--slots", "4",
           "--target_length", "4", "--recipes", "fiat,beta"]  # fmt: skip
  words += ["--try_learning_rates", "0.001,0.01", "--try_sizes", "8"]
  folder = tmp_path / "run"
  assert cli.main([*words, "--model_dir", str(tmp_path / "single"), "--dry_run"]) == 0
  told = capsys.readouterr().err
  assert re.search(r"36 rows are few: --folds 5 makes a test row of each, .* takes about \d+ minutes\n", told)
  assert {path.name for path in (tmp_path / "single").iterdir()} <= {"config.gin", "splits.json"}, "only foretold"
  (tmp_path / "single" / "results.json").write_text("{}")
  assert cli.main([*words, "--folds", "3", "--model_dir", str(tmp_path / "single")]) == 2, "nothing of it is lost"
  assert "holds a run of another configuration" in capsys.readouterr().err
  shown = pages(monkeypatch, folder)
  assert cli.main([*words, "--folds", "3", "--model_dir", str(folder)]) == 0
  assert [(one["to_come"], one["folds"]) for one in shown] == [(["fold 2", "fold 3"], 1), (["fold 3"], 2), ([], 3)]
  assert [one["verdict"] is None for one in shown] == [True, True, False]
  assert [one["recipes"][0]["test"]["rows"] for one in shown] == [12, 24, 36]
  said = capsys.readouterr()
  assert "over 3 folds, each row once, test: 36 rows in 9 groups can show" in said.err
  assert "over 3 folds:\n| recipe" in said.err and "test, 36 rows" in said.out
  record = results(folder)
  assert record["folds"] == 3 and [result["test"]["rows"] for result in record["recipes"]] == [36, 36]
  assert {pair["first"] for pair in record["verdict"]["pairs"]} | {record["verdict"]["pick"]} <= {"fiat", "beta"}
  for name in ("fiat", "beta"):
    tested = records(folder / name / "predictions" / "test.jsonl")
    assert sorted(row["id"] for row in tested) == sorted(f"row{n}" for n in range(ROWS))
    parts = [records(folder / f"fold_{n}" / name / "predictions" / "test.jsonl") for n in range(3)]
    assert tested == [row for part in parts for row in part]
  fiat = record["recipes"][0]
  assert sum(trial["chosen_in"] for trial in fiat["tried"]) == 3 and [p["step"] for p in fiat["curve"]] == [0, 1]
  assert [point["rows"] for point in fiat["sizes"]["points"]] == [8, 24 - 12]
  assert fiat["sizes"]["points"][-1]["test"] == pytest.approx(fiat["test"]["overall"]["exact_match"])
  beta = record["recipes"][1]["test"]["overall"]["exact_match"]
  assert beta == pytest.approx(75), "the recorded answer is wrong in one row of four"
  assert (folder / "report.html").exists() and "Holm" in (folder / "report.md").read_text()
  assert cli.main([*words, "--model_dir", str(folder)]) == 2
  assert "FOLDS was 3, now 0" in capsys.readouterr().err
  times = [file.stat().st_mtime_ns for file in folder.rglob("checkpoints/best/*")]
  assert cli.main([*words, "--folds", "3", "--budget", "0.01", "--model_dir", str(folder)]) == 0, "done already"
  assert times == [file.stat().st_mtime_ns for file in folder.rglob("checkpoints/best/*")]
