"""report.html: its numbers are those of results.json, its pictures are there, what users wrote is only text."""

import html.parser
import json
import re
import xml.etree.ElementTree as ET

import pytest
import simulated

from fiat_jax.report import page, results, sections, standing

VOID = {"meta", "link", "img", "br"}


class Page(html.parser.HTMLParser):
  """Elements with their texts; tags must be balanced."""

  def __init__(self, text: str):
    super().__init__()
    self.open: list[str] = []
    self.ids: list[str] = []
    self.tags: list[str] = []
    self.cells: dict[str, list[list[str]]] = {}
    self._table = ""
    self.feed(text)
    assert not self.open

  def handle_starttag(self, tag, attrs):
    values = dict(attrs)
    self.tags.append(tag)
    self.ids += [values["id"]] if "id" in values else []
    if tag not in VOID:
      self.open.append(tag)
    if tag == "table":
      self._table = values["id"].removeprefix("table-")
      self.cells[self._table] = []
    elif tag == "tr":
      self.cells[self._table].append([])
    elif tag in ("td", "th"):
      self.cells[self._table][-1].append("")

  def handle_startendtag(self, tag, attrs):
    self.handle_starttag(tag, attrs)
    if tag not in VOID:
      self.open.pop()

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if "td" in self.open or "th" in self.open:
      self.cells[self._table][-1][-1] += data.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  folder = simulated.write(tmp_path_factory.mktemp("compared"))
  page.write(folder)
  return folder


@pytest.fixture(scope="module")
def text(folder):
  return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def found(text):
  return Page(text)


def test_numbers_are_those_of_the_results(folder, found):
  record = json.loads((folder / "results.json").read_text())
  overview = {row[0]: row[1:] for row in found.cells["recipes"][1:]}
  by_language = {row[0]: row[1:] for row in found.cells["by-language"][1:]}
  for result in record["recipes"]:
    overall, languages = result["test"]["overall"], result["test"]["languages"]
    cells = overview[result["title"]]
    assert cells[0] == f"{overall['exact_match']:.1f}" and cells[4] == f"{overall['f1_squad']:.1f}"
    assert cells[1] == "{:.1f} to {:.1f}".format(*result["interval"])
    assert [cell.rstrip("*") for cell in by_language[result["title"]]] == [
      f"{score:.1f}"
      for score in (overall["exact_match"], *(languages[lang]["exact_match"] for lang in sorted(languages)))
    ]
    if "answer_seconds" in result:
      assert cells[6] == f"{1000 * result['answer_seconds']['test'] / result['test']['rows']:.3g}"
  pairs = found.cells["pairs"][1:]
  assert [row[2] for row in pairs] == [f"{p['difference']:+.1f}".replace("-", "−") for p in record["verdict"]["pairs"]]


def test_the_verdict_and_its_rule_stand_there_in_words(folder, text):
  record = json.loads((folder / "results.json").read_text())
  shown = html.unescape(re.sub(r"<[^>]+>", "", text))
  assert record["verdict"]["words"] in shown and record["verdict"]["outcome"] in shown
  assert "Hartigan's typical values" in shown and record["could_show"] in shown


def test_every_picture_is_there_well_formed_and_described(text):
  pictures = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
  said = "the first, one a language, parts, gains, curves, and those with and without instruction"
  assert len(pictures) == 1 + len(simulated.LANGS) + 4, said
  for picture in pictures:
    root = ET.fromstring(picture)
    assert root.get("role") == "img" and [child.tag for child in root[:2]] == ["title", "desc"]
    assert all(child.text for child in root[:2]) and "#0a0b" not in picture, "every colour is the page's"
  assert len(pictures) == text.count("<figure")


def test_ids_are_unique_and_refer_to_something(text, found):
  assert len(found.ids) == len(set(found.ids))
  referred = re.findall(r'(?:href="#|url\(#|aria-labelledby=")([^")]+)', text)
  assert referred and {name for names in referred for name in names.split()} <= set(found.ids)


def test_what_rows_and_titles_hold_is_text(text, found):
  assert found.tags.count("script") == 1 and "img" not in found.tags and "b" not in found.tags
  assert html.escape(simulated.HOSTILE, quote=False) in text.replace("&#34;", '"')
  assert "LoRA alone &lt;b&gt;&amp;amp;&lt;/b&gt; $x$" in text


def test_nothing_is_fetched(text):
  assert not re.findall(r'(?:src|href)="(?!#|data:,")[^"]*"', text.replace(html.escape(simulated.HOSTILE), ""))
  assert "@import" not in text and "url(http" not in text and "//" not in re.sub(r"(?s)<dd.*?</dd>|// .*", "", text)


def test_text_has_its_direction_and_language(text):
  assert re.search(r'<dd class="text" dir="auto" lang="ar">ما هي', text)
  assert re.search(r'<dd class="text" dir="auto" lang="hi">फ़्रांस', text)


def test_the_papers_figures_have_pictures_of_their_own(tmp_path):
  folder = simulated.write(tmp_path, tuple(simulated.EVERY))
  shown = page.page(results.read(folder))
  ids = re.findall(r'<svg id="([^"]+)"', shown)
  assert "gains-fiat-fine_tuning" in ids and "uses-distilled" in ids, "Figures 3 and 4"
  assert "instruction-fiat" in ids and "instructed-fiat" in ids, "Figures 5 and 6"
  found, record = Page(shown).cells, json.loads((folder / "results.json").read_text())
  scores = {result["title"]: f"{result['test']['overall']['exact_match']:.1f}" for result in record["recipes"]}
  written = {row[1]: row[2] for row in found["uses-distilled"][1:]}
  assert written == {t: scores[t] for t in ("fine-tuning", "distilled CoT", "FIAT", "distilled, then FIAT")}
  instructed = {row[0]: row[2:4] for row in found["instructed-fiat"][1:]}
  assert instructed == {
    "instruction-tuned": [scores["FIAT without instruction"], scores["FIAT"]],
    "base": [scores["bare, base model"], scores["FIAT, base model"]],
  }
  assert [row[1] for row in found["instruction-fiat"][1:]] == ["0.0", "0.0"], "from step 0"
  assert "71 programs were made" in shown and "4 of them found compiled" in shown


def test_one_recipe_two_and_several_seeds_are_pages_too(tmp_path):
  for place, (names, seeds) in enumerate(
    [(("fine_tuning",), (0,)), (("beta", "untuned"), (0,)), (("fiat", "beta"), (1, 2))]
  ):
    folder = tmp_path / str(place)
    folder.mkdir()
    page.write(simulated.write(folder, names, seeds, groups=3))
    assert Page((folder / "report.html").read_text(encoding="utf-8")).cells["recipes"]


def caption(shown):
  return html.unescape(re.findall(r"<figcaption>(.*?)</figcaption>", shown, flags=re.DOTALL)[0])


def test_what_test_puts_above_the_pick_is_not_drawn_as_below_it(tmp_path):
  validation = {"fine_tuning": 99.0, "fiat": 50.0, "untuned": 10.0}
  comparison = results.read(simulated.write(tmp_path, tuple(validation), validation=validation))
  assert comparison.pick and comparison.pick.name == "fine_tuning" and comparison.verdict
  assert comparison.verdict["recipe"] == "fiat" and comparison.verdict["outcome"] == "too little data"
  assert [result.name for result in standing.above(comparison)] == ["fiat"]
  assert "fiat" not in [result.name for result in standing.alike(comparison)]
  shown = page.page(comparison)
  assert "above all others" not in caption(shown)
  assert "Large and filled: above it on test, so that validation and test disagree" in caption(shown)
  picture = shown[shown.index('<svg id="first-seconds"') :]
  points = re.findall(r"<use [^>]*/>", picture[: picture.index("</svg>")])
  assert any("fill: var(--ink)" in point for point in points), "FIAT's"
  assert not any("fill: var(--paper)" in point for point in points), "none is hollow: the untuned model is not told"


def test_a_pick_above_all_is_said_to_be_that(tmp_path):
  shown = page.page(results.read(simulated.write(tmp_path, ("fiat", "untuned"))))
  assert "which is above all others on test. Hollow: below it" in caption(shown)


def test_money_comes_first_where_it_is_known(tmp_path):
  page.write(simulated.write(tmp_path, ("fiat", "fine_tuning", "beta"), cost=2.5))
  text = (tmp_path / "report.html").read_text(encoding="utf-8")
  found = Page(text).cells["recipes"]
  money = found[0].index("money per 1,000")
  assert {row[0]: row[money] for row in found[1:]} == {"FIAT": "2.5", "fine-tuning": "0", "beta alone": "2.5"}
  assert 0 < text.index('<svg id="first-money"') < text.index('<svg id="first-seconds"')


def test_the_big_models_seconds_are_counted_where_they_are_known(tmp_path):
  names = ("fiat", "fine_tuning", "beta")
  for place, known in (("known", 900.0), ("unknown", None)):
    (tmp_path / place).mkdir()
    folder = simulated.write(tmp_path / place, names, beta_seconds=known)
    record = json.loads((folder / "results.json").read_text())
    record["recipes"][0]["latency"] = {"p50": 0.25, "p95": 0.5}
    record["recipes"][0] |= {"reasoning_latency": {"p50": 2.0, "p95": 5.0}} if known else {}
    (folder / "results.json").write_text(json.dumps(record))
  counted, missing = (page.page(results.read(tmp_path / place)) for place in ("known", "unknown"))
  own = 1000 * 1.5 / 48
  columns = ("seconds per 1,000", "seconds, p50", "seconds, p95")
  told = []
  for shown in (counted, missing):
    table = Page(shown).cells["recipes"]
    places = [table[0].index(column) for column in columns]
    told.append({row[0]: [row[n] for n in places] for row in table[1:]})
  assert told[0]["FIAT"] == [f"{own + 900:.3g}", "2.25", "5.5"] and told[0]["fine-tuning"][0] == f"{own:.3g}"
  assert told[0]["beta alone"][0] == "900" and told[1]["beta alone"][0] == "–"
  assert told[1]["FIAT"] == [f"{own:.3g}", "0.25", "0.5"]
  assert "whose seconds are counted" in caption(counted) and "not known here" in caption(missing)
  assert "the big model's as its endpoint took them, one request after another." in html.unescape(counted)
  assert "the big model's are not known, and left out, for FIAT." in html.unescape(missing)


def test_a_comparison_under_way_says_what_is_to_come(tmp_path):
  folder = simulated.write(tmp_path, ("beta",))
  record = json.loads((folder / "results.json").read_text())
  (folder / "results.json").write_text(json.dumps(record | {"to_come": ["FIAT", simulated.HOSTILE]}))
  page.write(folder)
  text = (folder / "report.html").read_text(encoding="utf-8")
  assert "The comparison goes on; to come: FIAT, " in text and "There is no verdict" not in text


def test_what_could_not_be_run_is_shown_with_its_command(tmp_path):
  folder = simulated.write(tmp_path, ("fiat", "fine_tuning"))
  record = json.loads((folder / "results.json").read_text())
  lacking = {"title": "full fine-tuning", "needs": "--base_model", "command": "fiat compare --base_model NAME"}
  (folder / "results.json").write_text(json.dumps(record | {"not_run": {"base_full_fine_tuning": lacking}}))
  shown = page.page(results.read(folder))
  assert "needs --base_model. To run it: <code>fiat compare --base_model NAME</code></p>" in shown


def test_the_audit_has_labels_and_lengths(tmp_path):
  folder = simulated.complete(simulated.write(tmp_path, ("fiat", "fine_tuning", "beta")))
  shown = sections.audit(results.read(folder))
  tables = {table.name: [[cell.text for cell in row] for row in table.rows] for table in shown.tables}
  assert tables["labels"] == [["train", "4", "3"], ["test", "40", "0"]]
  assert tables["tokens"] == [["FIAT", *["12", "40", "55"] * 2], ["fine-tuning", *["12", "40", "55"] * 2]]
  text = page.page(results.read(folder))
  assert 'id="table-labels"' in text and 'id="table-tokens"' in text and "<img" not in text


def test_the_learning_curve_and_what_was_tried_are_shown(tmp_path):
  folder = simulated.write(tmp_path, ("fiat", "fine_tuning"))
  record = json.loads((folder / "results.json").read_text())
  points = [{"rows": rows, "test": score, "interval": (score - 5, score + 5), "validation": score} for rows, score in
            ((100, 50.0), (200, 60.0))]  # fmt: skip
  record["recipes"][0]["sizes"] = {"points": points, "more": {"rows": 400, "gain": 15.8, "interval": (2.0, 20.0)}}
  trial = {"learning_rate": 0.002, "validation": 61.0, "best_step": 4, "steps": 8}
  record["recipes"][0]["tried"] = [trial, {**trial, "learning_rate": 0.001, "chosen": True}]
  (folder / "results.json").write_text(json.dumps(record))
  shown = page.page(results.read(folder))
  assert "FIAT: 400 labels more would bring about +15.8 points (2.0 to 20.0)" in shown and "they would help" in shown
  record["recipes"][0]["sizes"]["more"] = {"rows": 400, "gain": None, "interval": None}
  (folder / "results.json").write_text(json.dumps(record))
  assert "cannot be told from a step of 100 to 200 rows" in page.page(results.read(folder))
  assert 'id="table-sizes"' in shown and 'id="sizes"' in shown
  assert "learning_rate 0.001" in shown and "chosen" in shown
