"""Predictions, their summary, their file and their table."""

import dataclasses
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


def test_an_answer_of_beta_is_the_label_that_it_names():
  rule = AnswerRule.parse(r"answer is (?P<answer>.+)\.")
  rows = [dataclasses.replace(row("a", reasoning="So the answer is the Nile."), labels=("nile", "volga"))]
  assert [p.text for p in answers_of_beta(rows, rule)] == ["nile"]


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


def test_auc_pr_is_of_a_languages_rows_together_and_has_no_standard_error():
  def predicted(number: int, lang: str, target: str, sure: float) -> Prediction:
    row = dataclasses.replace(PREDICTIONS[0].row, id=str(number), group=str(number), lang=lang, targets=(target,))
    text = "True" if sure > 0 else "False"
    return Prediction(row=row, text=text, label_logprobs={"True": sure, "False": -sure})

  rows = [predicted(0, "bn", "True", 2), predicted(1, "bn", "False", 1), predicted(2, "fi", "False", 2)]
  rows.append(predicted(3, "fi", "True", 1))
  summary = summarise(rows, ("accuracy", "auc_pr"))
  assert summary["languages"]["bn"] == {"accuracy": 50.0, "auc_pr": 100.0}
  assert summary["overall"] == {"accuracy": 50.0, "auc_pr": 75.0} and list(summary["standard_error"]) == ["accuracy"]
  texts = [dataclasses.replace(p, label_logprobs=None) for p in rows]
  without = summarise(texts, ("accuracy", "auc_pr"))
  assert "auc_pr" not in without["overall"]
  table = report.table([{"title": "beta", "test": without}], ("accuracy", "auc_pr"), "test")
  assert "| beta         |     50.0 |      - |" in table
  assert report.errors(summary).startswith("With standard errors: accuracy 50.0 ± ")
