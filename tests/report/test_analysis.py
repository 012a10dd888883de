"""What the page tells of languages, parts and rows, against plain counting."""

import dataclasses
import json

import numpy as np
import pytest
import simulated

from fiat_jax.evaluation import statistics
from fiat_jax.report import ablation, languages, page, part_tables, published, results, rows, tables, unaided


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
  return results.read(simulated.write(tmp_path_factory.mktemp("compared")))


def test_scores_by_language_are_those_of_the_results(comparison):
  found = languages.scores(comparison)
  for result in comparison.results:
    for lang, scores in result.test["languages"].items():
      of = found[lang][result.name]
      assert of.score == pytest.approx(scores["exact_match"])
      assert of.interval is not None and of.interval[0] <= of.score <= of.interval[1]


def test_a_language_is_claimed_only_after_holm_over_all_claims(comparison):
  pick, found, p = comparison.pick, languages.scores(comparison), {}
  for lang in comparison.languages:
    here = [n for n, of in enumerate(comparison.langs) if of == lang]
    scored = statistics.Scored(
      scores={r.name: r.scores("exact_match")[:, here] for r in comparison.results},
      langs=[lang] * len(here),
      groups=[comparison.groups[n] for n in here],
      tuned=[r.name for r in comparison.results if r.trains],
    )
    drawn = statistics.resample(scored)
    p |= {
      (lang, r.name): statistics.p_value(drawn.difference(pick.name, r.name)) for r in comparison.results if r != pick
    }
  shown, ordered = set(), sorted(p, key=p.__getitem__)
  for place, claim in enumerate(ordered):  # Holm, step by step
    if p[claim] * (len(ordered) - place) > 0.05:
      break
    shown.add(claim)
  assert shown == {(lang, name) for lang in found for name, of in found[lang].items() if of.differs}


def test_few_groups_bear_no_interval(tmp_path):
  comparison = results.read(simulated.write(tmp_path, ("fiat", "beta"), groups=5))
  assert languages.few_groups(comparison) == list(simulated.LANGS)
  assert all(
    of.interval is None and not of.differs for scores in languages.scores(comparison).values() for of in scores.values()
  )


def test_chance_makes_pearsons_correlation_negative_and_oldhams_not(comparison):
  rng = np.random.default_rng(0)
  truth = 50.0
  langs = [f"l{n}" for n in range(400)]

  def result(name):
    scores = {lang: {"exact_match": truth + rng.normal()} for lang in langs}
    return results.Result(record={"recipe": name, "title": name, "test": {"languages": scores}}, answers=([],))

  answers = [{"lang": lang, "group": lang} for lang in langs]
  more, less = result("more"), result("less")
  of = results.Comparison(
    results=(results.Result(record=more.record, answers=(answers,)), less),
    metrics=("exact_match",),
    verdict=None,
    could_show="",
    rows={},
    warnings=(),
  )
  found = languages.gains(of, more, less)
  assert found and found.correlation == pytest.approx(-(0.5**0.5), abs=0.1) and abs(found.unbiased) < 0.1
  assert found.points["l3"][1] == more.test["languages"]["l3"]["exact_match"] - found.points["l3"][0]


def test_parts_are_pairs_that_differ_in_one_switch(comparison):
  found = {(part.called, part.more.name, part.less.name) for part in ablation.parts(comparison)}
  assert found == {
    ("instruction", "fine_tuning", "bare"),
    ("reasoning", "fiat", "fine_tuning"),
    ("LoRA instead of full tuning", "bare", "full_fine_tuning"),
    ("tuning (LoRA)", "fiat", "untuned"),
  }


def with_overrides(folder, **overrides):
  """The comparison in the folder, some of its recipes with settings of their own."""
  record = json.loads((folder / "results.json").read_text())
  for result in record["recipes"]:
    result["switches"]["overrides"] = overrides.get(result["recipe"], {})
  (folder / "results.json").write_text(json.dumps(record))
  return results.read(folder)


def test_recipes_on_the_same_other_model_are_compared_and_on_different_ones_not(tmp_path):
  folder = simulated.write(tmp_path, ("fiat", "fine_tuning", "bare", "distilled"))
  small, large = {"MODEL": "small", "LORA_RANK": 4}, {"MODEL": "large", "LORA_RANK": 4}
  comparison = with_overrides(folder, fiat=small, fine_tuning=small, bare=large, distilled=large)
  assert [(part.called, part.more.name, part.less.name) for part in ablation.parts(comparison)] == [
    ("reasoning", "fiat", "fine_tuning")
  ]
  assert [rung.result and rung.result.name for rung in ablation.ladder(comparison)] == ["fiat", "fine_tuning"]
  assert unaided.unaided(comparison)[0].trained_without is comparison.result("fine_tuning")
  shown = page.page(comparison)
  assert 'id="what-each-part-brings"' in shown and 'id="gain-fiat-fine_tuning"' in shown


def test_what_is_tuned_may_have_its_own_learning_rate_and_that_is_said(tmp_path):
  folder = simulated.write(tmp_path, ("fiat", "fine_tuning", "distilled"))
  record = json.loads((folder / "results.json").read_text())
  record["recipes"][1]["switches"] |= {"adapter": "ia3", "reasoning": True}
  (folder / "results.json").write_text(json.dumps(record))
  comparison = with_overrides(folder, fine_tuning={"LEARNING_RATE": 0.003})
  (part,) = ablation.parts(comparison)
  assert (part.called, part.more.name) == ("IA3 instead of LoRA (and another learning rate)", "fine_tuning")
  for told, tried in (("IA3 instead of LoRA (and another learning rate)", {}), ("IA3 instead of LoRA", {"tried": []})):
    record = json.loads((folder / "results.json").read_text())
    for result, rate in zip(record["recipes"][:2], (0.001, 0.003), strict=True):
      result["switches"]["overrides"] = {}
      result |= {"learning_rate": rate, **tried}
    (folder / "results.json").write_text(json.dumps(record))
    assert [part.called for part in ablation.parts(results.read(folder))] == [told], "of all that were searched, none"


def test_reasoning_learned_with_other_settings_of_training_is_no_figure_4(tmp_path):
  comparison = with_overrides(simulated.write(tmp_path, ("fine_tuning", "distilled")), distilled={"BATCH": 64})
  assert [part.switch for part in ablation.parts(comparison)] == ["distils"] and not ablation.uses(comparison)


def test_the_ladder_has_the_papers_rungs_that_were_run(comparison):
  found = [rung.result and rung.result.name for rung in ablation.ladder(comparison)]
  assert found == ["fiat", "fine_tuning", "bare", "full_fine_tuning"]


def test_a_rung_that_could_not_be_run_says_what_it_needs(tmp_path):
  folder = simulated.write(tmp_path, ("fiat", "fine_tuning"))
  record = json.loads((folder / "results.json").read_text())
  record["not_run"] = {"base_full_fine_tuning": {"title": "full fine-tuning, base model", "needs": "--base_model"}}
  (folder / "results.json").write_text(json.dumps(record))
  table = tables.ladder(results.read(folder), "95 % interval")
  assert table and [cell.text for cell in table.rows[-1][:3]] == [
    "− instruction, − LoRA, − instruction-tuned model",
    "full fine-tuning, base model",
    "not run: needs --base_model",
  ]


def test_kinds_are_represented_by_validations_choice(comparison):
  score = lambda name: comparison.result(name).record["validation"]["overall"]["exact_match"]  # noqa: E731
  found = {kind.called: kind.best.name for kind in ablation.kinds(comparison)}
  assert list(found) == ["in-context learning", "fine-tuning", "FIAT"] and found["FIAT"] == "fiat"
  assert found["fine-tuning"] == max(("fine_tuning", "bare", "full_fine_tuning"), key=score)
  baseline = ablation.best_baseline(comparison, ablation.kinds(comparison))
  assert baseline and baseline.name == "beta"


def test_copying_is_none_of_the_papers_kinds(comparison):
  fiat = comparison.result("fiat")
  record = {**fiat.record, "recipe": "copying", "switches": {**fiat.switches, "reasoning_form": "answer"}}
  record["validation"] = {"overall": {comparison.metric: 100.0}}
  copying = dataclasses.replace(fiat, record=record)
  found = dataclasses.replace(comparison, results=(*comparison.results, copying))
  assert {kind.called: kind.best.name for kind in ablation.kinds(found)}["FIAT"] == "fiat"


def test_right_and_wrong_are_counted_row_by_row(comparison):
  (found,) = rows.crossed(comparison)
  beta, fiat = (comparison.result(name).answers[0] for name in ("beta", "fiat"))
  pairs = [(one["exact_match"] == 100, other["exact_match"] == 100) for one, other in zip(beta, fiat, strict=True)]
  assert (found.both, found.beta_alone) == (pairs.count((True, True)), pairs.count((True, False)))
  assert (found.tuned_alone, found.neither) == (pairs.count((False, True)), pairs.count((False, False)))


def test_a_tuned_model_without_its_reasoning_is_set_against_itself_with_it(comparison):
  (found,) = unaided.unaided(comparison)
  fiat = comparison.result("fiat")
  assert found.score == pytest.approx(fiat.record["without_reasoning"]["overall"]["exact_match"])
  assert found.difference == pytest.approx(found.score - fiat.test["overall"]["exact_match"])
  assert found.interval[0] <= found.difference <= found.interval[1]
  assert found.trained_without is comparison.result("fine_tuning")


def test_rows_of_divided_opinion_come_with_their_reasoning(comparison):
  found, count = rows.disagreements(comparison)
  assert 0 < len(found) <= rows.MOST_SHOWN and len(found) <= count
  assert len({one.answer["lang"] for one in found[: len(simulated.LANGS)]}) == len(simulated.LANGS)
  for one in found:
    assert len(set(one.right.values())) == 2 and "that the answer is right" in one.reasoning


def test_rows_that_decide_between_the_pick_and_its_rival_come_first(comparison):
  found, _ = rows.disagreements(comparison)
  first, second = comparison.verdict["pick"], comparison.verdict["against"]
  for lang in simulated.LANGS:
    decides = [one.right[first] != one.right[second] for one in found if one.answer["lang"] == lang]
    assert decides == sorted(decides, reverse=True)
  assert any(one.right[first] != one.right[second] for one in found)
  assert comparison.result(second).title in rows.order(comparison)


def test_parts_are_set_side_by_side_on_each_number_of_training_rows(tmp_path):
  folder = simulated.write(tmp_path, ("fiat", "fine_tuning"))
  record = json.loads((folder / "results.json").read_text())
  pair = {"first": "fine_tuning", "second": "fiat", "difference": -3.0, "interval": [-5.0, 1.0], "p": 0.2}
  record["sizes"] = [{"rows": size, **pair} for size in (100, 1000)]
  (folder / "results.json").write_text(json.dumps(record))
  comparison = results.read(folder)
  table = part_tables.size_gains(comparison, ablation.parts(comparison), "95 % interval")
  assert table and [[cell.text for cell in row][1:6] for row in table.rows] == [
    ["FIAT", "fine-tuning", size, "+3.0", "−1.0 to 5.0"] for size in ("100", "1,000")
  ]


def test_switches_of_an_older_folder_are_not_guessed(tmp_path):
  folder = simulated.write(tmp_path, ("fiat", "fine_tuning"))
  record = json.loads((folder / "results.json").read_text())
  for result in record["recipes"]:
    del result["switches"]
  (folder / "results.json").write_text(json.dumps(record))
  comparison = results.read(folder)
  assert not ablation.parts(comparison) and not ablation.ladder(comparison) and not ablation.kinds(comparison)


def test_what_is_published_stands_beside_what_was_run(tmp_path):
  folder = simulated.write(tmp_path, ("fiat", "fine_tuning"))
  assert published.published(results.read(folder)) == []
  record = json.loads((folder / "results.json").read_text())
  figure = {"who": "XS", "recipe": "fiat", "metric": "exact_match", "langs": ["bn", "hi"], "score": 73.6}
  record["published"] = [figure, {**figure, "langs": ["bn"]}, {**figure, "langs": ["ta"]}]
  (folder / "results.json").write_text(json.dumps(record))
  comparison = results.read(folder)
  means, single = published.published(comparison)
  langs = comparison.result("fiat").test["languages"]
  wanted = (langs["bn"]["exact_match"] + langs["hi"]["exact_match"]) / 2
  ((title, metric, over, here, there),) = means.rows
  assert [title.text, metric.text, over.text, there.text] == ["FIAT", "exact_match", "2 languages", "73.6"]
  assert here.by == pytest.approx(wanted) and [row[2].text for row in single.rows] == ["bn"]
  page.write(folder)
  assert "Beside what is published" in (folder / page.NAME).read_text()
