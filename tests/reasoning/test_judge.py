"""IMPACT's answers judged behind a real endpoint: scores, what is asked, and that nothing is paid for twice."""

from __future__ import annotations

import dataclasses
import json

import pytest
from endpoint import Endpoint, served

from fiat_jax import cli
from fiat_jax.configuration import configure
from fiat_jax.data.rows import Row
from fiat_jax.errors import UserError
from fiat_jax.evaluation import metrics
from fiat_jax.evaluation.evaluate import Prediction, summarise, write_predictions
from fiat_jax.evaluation.judge import judged

pytestmark = pytest.mark.compiled_quickly

NAMES = ("relevance", "coherence")
ASKED = ("Is {text} what was asked for?", "Does {text} hang together?")


def _predictions(*texts: str, targets: tuple[str, ...] = ASKED) -> list[Prediction]:
  return [
    Prediction(
      row=Row(
        id=str(n), lang="creative_writing", group=str(n), x="x", targets=targets, reasoning=None, labels=(), line=n + 1,
        fields={},
      ),
      text=text,
    )
    for n, text in enumerate(texts)
  ]  # fmt: skip


@pytest.fixture
def settings(tmp_path, monkeypatch):
  monkeypatch.setenv("OPENAI_API_KEY", "none")
  made = configure([], [], {"JUDGE": "openai:big", "JUDGE_STORE": str(tmp_path / "judge")}).settings
  return lambda url, **changed: dataclasses.replace(made, judge_url=url, **changed)


def says(prompt: str, attempt: int) -> str:
  if "odd" in prompt:
    return "I would rather not say."
  return "It is 4 of 5." if "asked for" in prompt else "Between 1 and 9, a 3."


def test_answers_get_the_judges_scores_and_are_not_judged_twice(settings, tmp_path):
  endpoint = Endpoint(answer=says)
  with served(endpoint) as url:
    found = judged(_predictions("red {text}", "blue", "odd"), NAMES, settings(url))
    again = judged(_predictions("red {text}", "blue", "odd"), NAMES, settings(url))
  assert sum(endpoint.answered.values()) == 6 and "Is red {text} what was asked for?" in endpoint.answered
  assert [p.judged for p in found] == [p.judged for p in again]
  assert found[0].judged == {"relevance": 5.0, "coherence": 3.0}, "the last digit counts, as INSTRUCTEVAL reads it"
  assert found[2].judged == {"relevance": 1.0, "coherence": 1.0}
  summary = summarise(found, NAMES)
  assert summary["overall"] == {"relevance": pytest.approx(11 / 3), "coherence": pytest.approx(7 / 3)}
  assert summary["standard_error"]["relevance"] > 0
  write_predictions(tmp_path / "test.jsonl", found, NAMES)
  assert '"coherence": 3.0' in (tmp_path / "test.jsonl").read_text()


def test_what_the_judge_did_not_say_is_asked_again_alone(settings):
  endpoint = Endpoint(fault=lambda endpoint, prompt, attempt: "400:no" if "blue" in prompt else "", answer=says)
  with served(endpoint) as url:
    with pytest.raises(UserError, match=r"2 of 4 judgements are missing .*the same command asks for those alone"):
      judged(_predictions("red", "blue"), NAMES, settings(url))
    endpoint.fault = lambda endpoint, prompt, attempt: ""
    assert len(judged(_predictions("red", "blue"), NAMES, settings(url))) == 2
  assert sum(endpoint.answered.values()) == 4


def test_a_cap_holds_and_is_told(settings):
  endpoint = Endpoint(answer=says)
  with served(endpoint) as url, pytest.raises(UserError, match=r"judgements are missing \(--max_cost is reached\)"):
    judged(_predictions("red", "blue"), NAMES, settings(url, price="1000,1000", max_cost=0.5))


def test_a_cap_without_a_price_is_refused_before_a_judge_is_asked(settings):
  endpoint = Endpoint(answer=says)
  with served(endpoint) as url, pytest.raises(UserError, match=r"--max_cost 0\.5 cannot be kept .* give --price"):
    judged(_predictions("red", "blue"), NAMES, settings(url, max_cost=0.5))
  assert not endpoint.bodies


def test_what_no_judge_can_work_with_is_told(settings):
  with pytest.raises(UserError, match="give openai:NAME"):
    judged(_predictions("a"), NAMES, settings("", judge="smollm2"))
  with pytest.raises(UserError, match="has 1 targets: what the judge is asked is expected"):
    judged(_predictions("a", targets=("b",)), NAMES, settings("http://127.0.0.1:9"))
  with pytest.raises(UserError, match="'relevance' is the judgement of a big model"):
    metrics.check(NAMES)


@pytest.mark.slow
def test_impacts_sample_is_validated_trained_on_and_judged(tiny_checkpoint, tmp_path, monkeypatch, capsys):
  """No judge is asked in training: another metric leads it, and the judge scores what comes of it."""
  monkeypatch.setenv("OPENAI_API_KEY", "none")
  assert cli.main(["prepare", "impact", "--sample", "--quiet"]) == 0
  rows = "prepared:impact:test"
  words = ["--gin_file", "gin/tasks/impact.gin", "--model", str(tiny_checkpoint), "--model_dir", str(tmp_path / "run")]
  words += ["--train", rows, "--validation", rows, "--metrics", "f1_squad", "--recipes", "fine_tuning"]
  words += ["--batch", "2", "--steps", "2", "--validate_every", "2", "--slots", "4", "--target_length", "64"]
  for verb in ("validate", "train"):
    assert cli.main([verb, *words]) == 0, capsys.readouterr().err
  endpoint = Endpoint(answer=lambda prompt, attempt: "It is a 4." if "Asked for" in prompt else "A 2.")
  with served(endpoint) as url:
    words = ["--model_dir", str(tmp_path / "run"), "--output", str(tmp_path / "judged")]
    words += ["--metrics", "relevance,coherence", "--judge", "openai:big", "--judge_url", url]
    words += ["--judge_store", str(tmp_path / "judge")]
    assert cli.main(["evaluate", *words]) == 0, capsys.readouterr().err
  found = json.loads((tmp_path / "judged" / "evaluation_test.json").read_text())["test"]
  assert found["overall"] == {"relevance": 4.0, "coherence": 2.0}
  assert set(found["languages"]) == {"creative_writing", "informative_writing", "professional_writing"}
  assert sum(endpoint.answered.values()) == 2 * found["rows"]
