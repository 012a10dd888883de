"""Predictions, their summary, their file and their table."""

import json

from fiat_jax.data.rows import Row
from fiat_jax.evaluation import report
from fiat_jax.evaluation.evaluate import Prediction, answers_of_beta, summarise, write_predictions
from fiat_jax.reasoning.answers import AnswerRule


def row(name, lang="en", target="Nile", reasoning=None):
  return Row(
    id=name,
    lang=lang,
    group="g",
    x="Which river?",
    targets=(target,),
    reasoning=reasoning,
    labels=(),
    line=1,
    fields={},
  )


PREDICTIONS = [
  Prediction(row=row("a"), text="the Nile"),
  Prediction(row=row("b", lang="hi"), text="", fault="empty"),
  Prediction(row=row("c", lang="hi"), text="Nile Nile Nile", fault="unfinished", logprob=-1.5),
]


def test_summary_averages_over_languages_and_counts_faults():
  summary = summarise(PREDICTIONS, ("exact_match",))
  assert summary["rows"] == 3
  assert summary["languages"] == {"en": {"exact_match": 100.0}, "hi": {"exact_match": 0.0}}
  assert summary["overall"] == {"exact_match": 50.0}
  assert (summary["empty"], summary["unfinished"], summary["unparsed"]) == (1, 1, 0)


def test_predictions_file_has_a_line_a_row(tmp_path):
  path = tmp_path / "predictions" / "test.jsonl"
  write_predictions(path, PREDICTIONS, ("exact_match",))
  records = [json.loads(line) for line in path.read_text().splitlines()]
  assert [record["id"] for record in records] == ["a", "b", "c"]
  assert records[0] == {
    "id": "a",
    "lang": "en",
    "group": "g",
    "input": "Which river?",
    "target": "Nile",
    "prediction": "the Nile",
    "exact_match": 100.0,
  }
  assert records[2]["fault"] == "unfinished" and records[2]["logprob"] == -1.5


def test_answers_of_beta_that_cannot_be_read_count_as_unparsed():
  rule = AnswerRule.parse(r"answer is (?P<answer>.+)\.")
  rows = [row("a", reasoning="So the answer is Nile."), row("b", reasoning="Who knows?")]
  predictions = answers_of_beta(rows, rule)
  assert [p.text for p in predictions] == ["Nile", ""]
  assert summarise(predictions, ("accuracy",))["unparsed"] == 1


def test_table_shows_every_recipe_metric_and_language():
  result = {"title": "FIAT", "test": summarise(PREDICTIONS, ("exact_match",))}
  header, _, line, *_ = report.table([result], ("exact_match",), "test").splitlines()
  assert [cell.strip() for cell in header.split("|")[1:-1]] == [
    "test, 3 rows",
    "exact_match",
    "en",
    "hi",
    "no whole answer",
  ]
  assert [cell.strip() for cell in line.split("|")[1:-1]] == ["FIAT", "50.0", "100.0", "0.0", "2"]
