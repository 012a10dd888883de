"""The shipped samples, in each source's own format, become the rows that are wanted."""

import json
import zipfile
from pathlib import Path

import pytest

from fiat_jax import cli
from fiat_jax.data.languages import code
from fiat_jax.data.tables import open_file
from fiat_jax.data.task_files import files, settings
from fiat_jax.errors import UserError
from fiat_jax.evaluation.code import COMPLETION
from fiat_jax.preparation import counts, prepare
from fiat_jax.preparation.converters import flan_mini, xtreme_up
from fiat_jax.preparation.files import Files
from fiat_jax.preparation.registry import SETS
from fiat_jax.resources import shipped

PLAIN = {"id", "lang", "group", "target"}


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
  """Every sample prepared: `rows(name, part)` gives a part's rows."""
  folder = tmp_path_factory.mktemp("prepared")

  def rows(name: str, part: str) -> list[dict]:
    if not (folder / name).exists():
      prepare.prepare(SETS[name], folder / name, prepare.sample_folder(name), sample=True)
    return [json.loads(line) for line in (folder / name / f"{part}.jsonl").read_text().splitlines()]

  return rows


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_a_sample_and_says_what_it_is(name, prepared):
  known = SETS[name]
  assert known.licence and known.home.startswith("https://") and known.metric
  assert all(remote.address.startswith("https://") for remote in known.remotes)
  split = next(iter(known.published), "") or "test"
  assert prepared(name, "all/train" if split == "all" else split)


def test_xtreme_up_has_the_papers_views_and_sizes(prepared):
  assert (len(xtreme_up.INDIC), len(xtreme_up.FULL), len(set(xtreme_up.OFFICIAL))) == (20, 27, 21)
  published = SETS["xtreme_up"].published
  assert sum(published["full/train"].values()) == 21_706 and published["full/test"]["te"] == 333
  assert set(published["official/test"]) == set(published["indic/test"]) - {"hi"} | {"bn", "te"}
  assert {row["lang"] for row in prepared("xtreme_up", "full/test")} == {"ar", "bn", "hi", "ja", "ru"}
  assert {row["lang"] for row in prepared("xtreme_up", "indic/test")} == {"hi"}
  assert {row["lang"] for row in prepared("xtreme_up", "official/test")} == {"bn"}
  row = prepared("xtreme_up", "indic/test")[0]
  assert set(row) == PLAIN | {"question", "title", "context"} and len(row["group"]) == 12


def test_a_language_that_xtreme_up_lacks_is_named(prepared):
  found = {"indic/test": dict.fromkeys(xtreme_up.INDIC[1:], 2000)}
  with pytest.raises(UserError, match=r"xtreme_up is not whole: indic/test as is missing\. Nothing"):
    counts.check(found, {"indic/test": SETS["xtreme_up"].published["indic/test"]}, "xtreme_up")


def test_xor_attriqa_reads_the_passage_that_was_retrieved_or_either_translation(prepared):
  views = {view: prepared("xor_attriqa", f"{view}/test") for view in ("retrieved", "in_language", "english")}
  for mixed, own, english in zip(*views.values(), strict=True):
    assert english["passage"].isascii()
    assert mixed["passage"] == (english if mixed["passage_language"] == "en" else own)["passage"] != ""
    assert mixed["target"] in ("True", "False") and mixed["answer"] and mixed["question"]
  assert {row["lang"] for row in views["english"]} == {"bn", "fi", "ja", "ru", "te"}


def test_recorded_reasoning_stands_with_its_row_and_ends_with_it(prepared):
  first, *_, fifth, _ = prepared("commonsense_qa", "train")
  assert first["reasoning"].endswith("So the answer is (a) shelf by the door.")
  assert "Q:" not in first["reasoning"] and first["target"] == first["choices"][0]
  assert fifth["input"].endswith("(e) honey") and fifth["reasoning"].endswith("(a) bread."), "a wrong one is kept"
  assert [row["target"] for row in prepared("svamp", "train")] == ["7", "24", "13", "5", "3.5", "44"]
  nli = prepared("esnli", "train")
  assert [row["target"] for row in nli[:3]] == ["entailment", "neutral", "contradiction"]
  assert nli[1]["reasoning"].endswith("Answer: neutral") and nli[1]["explanation"]
  assert prepared("anli", "test")[0]["reasoning"].endswith("So the answer is entailment.")


def test_reasoning_for_fewer_rows_than_there_are_is_told(tmp_path):
  folder = tmp_path / "release"
  for file in prepare.sample_folder("commonsense_qa").rglob("*.json"):
    if file.name != "train_CoT_1.json":
      place = folder / file.relative_to(prepare.sample_folder("commonsense_qa"))
      place.parent.mkdir(parents=True, exist_ok=True)
      place.write_bytes(file.read_bytes())
  with pytest.raises(UserError, match=r"cqa_train.json: has 6 rows, and 4 have reasoning"):
    prepare.prepare(SETS["commonsense_qa"], tmp_path / "rows", folder)


def test_answers_that_are_numbers_lose_their_commas(prepared):
  assert [row["target"] for row in prepared("gsm8k", "test")] == ["50", "1250"]
  assert "<<" in prepared("gsm8k", "train")[0]["solution"]
  bengali, *_ = prepared("mgsm", "test")
  assert bengali["lang"] == "bn" and bengali["target"] == "50" and bengali["group"] == "problem-1"


def test_translations_of_an_item_belong_together(prepared):
  rows = [row for row in prepared("xcopa", "test") if row["group"] == "test-1"]
  assert [row["lang"] for row in rows] == ["it", "sw", "tr"]
  assert all(row["target"] == row["choices"][1] and row["asked"].startswith("What happened") for row in rows)


def test_bbh_has_codexs_reasoning_and_three_shots(prepared):
  recorded = prepared("bbh", "recorded/all")
  assert recorded[0]["task"] == "counting_fruit" and recorded[0]["reasoning"].endswith("So the answer is 3.")
  shown = prepared("bbh", "few_shot/test")[0]
  assert shown["shots"].count("\nAnswer: ") == 3 and shown["shots"].endswith("\nAnswer: 3\n\n")
  assert shown["question"] == "I have two figs. How many fruits do I have?" and shown["target"] == "2"


def test_a_bbh_tasks_name_is_taken_for_no_language():
  assert [code(name) for name in ("disambiguation_qa", "navigate", "snarks", "zh_Hans")] == [
    "disambiguation_qa",
    "navigate",
    "snarks",
    "zh_Hans",
  ]


def test_reading_sets_have_languages_groups_and_answers(prepared):
  assert {row["lang"] for row in prepared("tydi_qa", "train")} == {"id", "sw", "bn"}
  row = prepared("xorqa_in", "test")[0]
  assert row["lang"] == "bn" and "reasoning" not in row and row["oracle_question"] and row["target"]


def test_instructevals_prompts_are_to_the_letter(prepared):
  row = prepared("mmlu", "test")[0]
  prompt = row["header"] + row["shots"] + row["question"] + "\nAnswer:"
  assert prompt.startswith(
    "The following are multiple choice questions (with answers) about  plain sums.\n\n"
    "What is 2 + 3?\nA. 4\nB. 5\nC. 6\nD. 7\nAnswer: B\n\nWhat is 3 * 3?"
  )
  assert prompt.endswith("Answer: A\n\nWhat is 7 + 1?\nA. 6\nB. 7\nC. 8\nD. 9\nAnswer:")
  assert row["target"] == "C" and row["choice"] == " C" and row["choices"] == [" A", " B", " C", " D"]
  assert prepared("mmlu", "test")[2]["question"].startswith('A farmer has two "fields", 3 acres each.\nHow many')


def test_drop_keeps_rows_of_one_span_and_leaves_out_the_passages_of_its_shots(prepared):
  rows = prepared("drop", "test")
  ids = {row["id"] for row in rows}
  assert not ids & {"a2", "c2"}, "two spans, or two annotators who differ"
  shots = rows[0]["shots"]
  assert shots.count("\nAnswer: ") == 3
  assert all(row["question"].split(". ")[0] not in shots for row in rows)
  others = prepared("drop", "left_out")
  assert {"a2", "c2"} < {row["id"] for row in others}
  questions = json.loads(next(prepare.sample_folder("drop").rglob("*.json")).read_text()).values()
  assert len(rows) + len(others) == sum(len(passage["qa_pairs"]) for passage in questions), "none is lost"


def test_a_drop_file_with_fewer_rows_than_published_is_told(tmp_path):
  with pytest.raises(UserError, match=r"drop is not whole: it has \d+ of 9,536 rows\. Nothing"):
    prepare.prepare(SETS["drop"], tmp_path / "rows", prepare.sample_folder("drop"))


def test_crass_shuffles_options_and_reads_its_shots_without_running_them(prepared):
  rows = prepared("crass", "test")
  assert rows[0]["shots"].startswith("A woman opens a window. What would have happened")
  assert "Answer: A\n\nA cook boils an egg." in rows[0]["shots"] and rows[0]["shots"].endswith(
    "C. It might have broken.\nAnswer: C\n\n"
  )
  right = ["covered in sand", "might have missed", "Nothing special", "high up too"]
  for row, words in zip(rows, right, strict=True):
    (line,) = [line for line in row["question"].splitlines() if words in line]
    assert line.startswith(f"{row['target']}. ") and row["choice"] == f" {row['target']}"
  assert len({row["target"] for row in rows}) > 1


def test_flan_minis_collections_are_told_apart(prepared):
  assert prepared("flan_mini", "share_gpt/train")[0]["messages"][-1] == {"role": "assistant", "content": "Lake Geneva."}
  assert prepared("flan_mini", "p3/train")[0]["messages"][0]["role"] == "user"
  (held_out,) = prepared("flan_mini", "all/validation")
  assert held_out not in prepared("flan_mini", "all/train") and held_out in prepared("flan_mini", "gpt4_alpaca/train")


def test_a_collection_that_nobody_knows_gets_a_view_of_its_own(tmp_path):
  row = {"source": "New Set", "conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
  (tmp_path / "chunk_0.jsonl").write_text(json.dumps(row) + "\n")
  found = list(flan_mini.convert(Files(tmp_path)))
  assert [(part.view, part.row["source"]) for part in found] == [("new_set", "new_set"), ("all", "new_set")]


def test_chats_in_which_nobody_answers_are_left_out_and_counted(tmp_path):
  turn = lambda who, words: {"from": who, "value": words}  # noqa: E731
  chats = [
    [turn("gpt", "a")],
    [],
    [turn("human", "a"), turn("gpt", " ")],
    [turn("human", "a"), turn("gpt", "b"), turn("human", "c"), turn("gpt", "")],
    [turn("human", "a"), turn("bing", "b")],
  ]
  lines = [json.dumps({"source": "sharegpt", "conversations": turns}) + "\n" for turns in chats]
  (tmp_path / "chunk_0.jsonl").write_text("".join(lines))
  found = [part for part in flan_mini.convert(Files(tmp_path)) if part.view == "all"]
  assert [part.split == "left_out" for part in found] == [True, True, True, False, False]
  assert [turn["content"] for turn in found[3].row["messages"]] == ["a", "b"]


def test_humanevals_targets_are_whole_programs_but_for_the_answer(prepared):
  for row in prepared("humaneval", "test"):
    assert row["target"].startswith(row["prompt"] + COMPLETION) and row["target"].endswith(")\n")


def test_impacts_targets_are_what_the_judge_is_asked(prepared):
  row = prepared("impact", "test")[0]
  relevance, coherence = row["target"]
  assert row["kind"] == "informative_writing" and row["prompt"] in relevance and "{prompt}" not in relevance
  assert relevance.count("{text}") == coherence.count("{text}") == 1 and row["prompt"] not in coherence


TASKS = sorted(file.stem for file in (shipped("gin") / "tasks").glob("*.gin") if file.stem != "instructeval")


@pytest.mark.parametrize("task", TASKS)
def test_a_tasks_gin_file_names_rows_and_columns_that_there_are(task, capsys):
  found = settings(task)
  named = files(found)
  for path in named.values():
    if path.startswith("prepared:"):
      name = path.removeprefix("prepared:").split(":")[0].split("/")[0]
      assert cli.main(["prepare", name, "--sample"]) == 0
  words = [word for split, path in named.items() for word in (f"--{split}", path)]
  from fiat_jax.configuration import configure
  from fiat_jax.data.rows import read_rows

  made = configure([f"gin/tasks/{task}.gin"], [], {}).settings
  assert made.files() == named and words
  for path in named.values():
    rows = read_rows(path, made.layout)
    assert rows and all(row.x for row in rows)
  if made.exemplars:
    assert read_rows(made.exemplars, made.layout)[0].reasoning


def test_the_command_prepares_an_archive_and_the_rows_are_found_by_name(tmp_path, capsys):
  archive = tmp_path / "xcopa.zip"
  sample = prepare.sample_folder("xcopa")
  with zipfile.ZipFile(archive, "w") as packed:
    for file in sample.rglob("*.jsonl"):
      packed.write(file, file.relative_to(sample).as_posix())
  assert cli.main(["prepare", "xcopa", "--from", str(archive), "--output", str(tmp_path / "rows")]) == 2
  told = capsys.readouterr().err
  assert "xcopa is not whole: validation et is missing; validation ht is missing" in told and "and 16 more" in told
  assert cli.main(["prepare", "xcopa", "--sample"]) == 0
  assert "prepared:xcopa:test  9 rows in 3 languages" in capsys.readouterr().out
  with open_file(Path("prepared:xcopa:test")) as file:
    assert len(file.readlines()) == 9
  with pytest.raises(
    UserError, match=r"is no part of the set: there is prepared:xcopa:test, prepared:xcopa:validation"
  ):
    open_file(Path("prepared:xcopa:train"))
