"""Published scores beside a run's own: over the same languages, and the papers' tables as they ship."""

from __future__ import annotations

import statistics

import pytest

from fiat_jax.errors import UserError
from fiat_jax.evaluation import published, report
from fiat_jax.preparation.converters import xtreme_up
from fiat_jax.resources import shipped

TASKS = shipped("tasks")
FILES = sorted(TASKS.glob("*/published*.csv"))


def _result(recipe: str, **languages: float) -> dict:
  overall = {"f1_squad": statistics.fmean(languages.values())}
  scores = {lang: {"f1_squad": score} for lang, score in languages.items()}
  return {"recipe": recipe, "title": recipe.upper(), "test": {"overall": overall, "languages": scores}}


def test_means_are_over_the_same_languages():
  figure = lambda who, langs, score: published.Figure(  # noqa: E731
    who=who, recipe="fiat", metric="f1_squad", langs=tuple(langs.split()), score=score
  )
  figures = [figure("XS", "as bho", 60), figure("S", "as bho", 70), figure("XS", "ta", 1), figure("XS", "", 2)]
  found = published.beside(figures, [_result("fiat", **{"as": 10, "bho": 20, "ur": 90}), _result("lora", ur=1)], "test")
  assert [(row.langs, row.here, dict(row.scores)) for row in found] == [
    (("as", "bho"), 15, {"XS": 60, "S": 70}),
    (("ta",), None, {"XS": 1}),
    ((), 40, {"XS": 2}),
  ]
  lines = report.published(found).splitlines()
  assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
    "FIAT",
    "f1_squad",
    "2 languages",
    "15.0",
    "60.0",
    "70.0",
  ]
  assert report.published([]) == ""


@pytest.mark.parametrize("file", FILES, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_the_papers_figures_are_read_and_agree_with_themselves(file):
  figures = published.read(str(file))
  single = {(f.who, f.recipe, f.metric, f.langs[0]): f.score for f in figures if len(f.langs) == 1}
  for figure in figures:
    known = [single.get((figure.who, figure.recipe, figure.metric, lang)) for lang in figure.langs]
    if len(known) > 1 and None not in known:
      assert statistics.fmean(filter(None, known)) == pytest.approx(figure.score, abs=0.16)
  assert all(0 <= figure.score <= 100 and figure.who for figure in figures)
  assert all((shipped("gin") / "recipes" / f"{f.recipe}.gin").exists() for f in figures if f.recipe)


def test_fiats_tables_2_and_3_are_there():
  figures = published.read(str(TASKS / "xtreme_up" / "published_indic.csv"))
  whole = {(f.who, f.recipe): f.score for f in figures if f.langs == xtreme_up.INDIC}
  recipes = ("fiat", "fine_tuning", "lora", "full_fine_tuning", "base_full_fine_tuning")
  assert [whole["FIAT XS", recipe] for recipe in recipes] == [73.6, 70.7, 69.8, 67.8, 63.5]
  assert [whole["FIAT S", recipe] for recipe in recipes] == [77.3, 76.7, 75.3, 72.3, 67.1]
  assert whole["FIAT, L in context", "beta"] == 68.9


def test_what_differs_from_the_paper_stands_below_its_figures_once():
  """CommonsenseQA's are of other sets (`gin/runs/table3_cqa.gin`), which is to be read beside them."""
  figures = published.read(str(TASKS / "commonsense_qa" / "published_elsewhere.csv"))
  run = [{"recipe": name, "title": name, "test": {"overall": {"accuracy": 50.0}}} for name in ("fiat", "lora")]
  told = report.published(published.beside(figures, run, "test"))
  for one in (told, report.published(published.beside(figures, run[1:], "test"))):
    assert one.count("what can be set side by side is the order of the rungs") == 1
  rungs = [line.split("|")[5:-1] for line in told.splitlines()[2:4]]
  assert [[float(score) for score in scores] for scores in rungs] == [
    [73.6, 77.3, 77.8, 79.3, 94.0, 93.9],
    [69.8, 75.3, 76.4, 79.1, 93.5, 94.1],
  ]


@pytest.mark.parametrize("name", ["published_indic", "published_full"])
def test_a_row_of_the_paper_that_lost_a_language_is_left_out(name):
  """Table 7's XS without LoRA has a column too few and its mean in the last: a row in place has these extremes."""
  figures = published.read(str(TASKS / "xtreme_up" / f"{name}.csv"))
  rows: dict[tuple[str, str], dict[str, float]] = {}
  for figure in figures:
    if len(figure.langs) == 1 and figure.langs[0] in xtreme_up.INDIC:
      rows.setdefault((figure.who, figure.recipe), {})[figure.langs[0]] = figure.score
  assert rows
  for scores in rows.values():
    ordered = sorted(scores, key=lambda lang: scores[lang])
    assert len(ordered) == 20 and set(ordered[:2]) == {"brx", "mni"} and ordered[-1] == "hi"


def test_what_is_no_table_of_scores_is_told_by_its_line(tmp_path):
  file = tmp_path / "p.csv"
  file.write_text("who,recipe,metric,lang,score\na,b,c,d,1\n")
  with pytest.raises(UserError, match=r"p.csv:2: there is no column 'langs' .*did you mean lang"):
    published.read(str(file))
  file.write_text("who,recipe,metric,langs,score\na,b,c,d,high\n")
  with pytest.raises(UserError, match=r"p.csv:2: the score 'high' is no number"):
    published.read(str(file))


def test_a_suite_sets_what_is_published_beside_each_metric():
  figures = published.read(str(TASKS / "mmlu" / "published.csv"))
  summary = {"rows": 9, "overall": {"starts_with": 40.0}, "standard_error": {"starts_with": 1.0}}
  other = {"rows": 9, "overall": {"accuracy": 50.0}, "standard_error": {"accuracy": 1.0}}
  table = report.suite([("mmlu", ["starts_with"], summary, figures), ("mmlu_likelihood", ["accuracy"], other, figures)])
  cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
  assert cells[0][5:] == ["Vicuna 13B", "Flacuna 13B", "Flan-T5 XXL"]
  assert cells[2][3:] == ["40.0", "1.0", "50.6", "51.1", "54.5"] and cells[3][5:] == ["-", "-", "-"]
