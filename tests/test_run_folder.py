"""A run folder belongs to one configuration, one model and the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from fiat_jax.errors import UserError
from fiat_jax.run_folder import claim, occupied, widen

TEXT = "TRAIN = 'a.jsonl'\nSTEPS = 1\nSLOTS = 4\nRECIPES = ('fiat',)\nfiat/Recipe.reasoning = True\n"
PRINTS = {"model": "m1", "train": "t1"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
  return begun(tmp_path / "runs" / "mine", TEXT)


def begun(folder: Path, text: str) -> Path:
  claim(folder, text, PRINTS)
  (folder / "metrics.jsonl").touch()
  return folder


def test_the_same_configuration_goes_on(run: Path):
  before = (run / "config.gin").read_bytes()
  claim(run, TEXT, PRINTS)
  claim(run, TEXT.replace("SLOTS = 4", "SLOTS = 8"), PRINTS)  # changes no result
  assert (run / "config.gin").read_bytes() == before
  assert before.decode().startswith("# model: m1\n# train: t1\nTRAIN = ")


CHANGES = {
  "STEPS was 1, now 2": (TEXT.replace("STEPS = 1", "STEPS = 2"), PRINTS),
  "STEPS was 1, now absent": (TEXT.replace("STEPS = 1\n", ""), PRINTS),
  "CLIP was absent, now 1.0": (TEXT + "CLIP = 1.0\n", PRINTS),
  "fiat/Recipe.reasoning was True, now False": (TEXT.replace("True", "False"), PRINTS),
  "model was m1, now m2": (TEXT, {**PRINTS, "model": "m2"}),
  "train was t1, now t2": (TEXT, {**PRINTS, "train": "t2"}),
}


@pytest.mark.parametrize("difference", CHANGES)
def test_another_one_is_refused_and_the_difference_named(run: Path, difference: str):
  before = (run / "config.gin").read_bytes()
  with pytest.raises(UserError, match=rf"mine: holds a run of another configuration \({difference}\)"):
    claim(run, *CHANGES[difference])
  assert (run / "config.gin").read_bytes() == before


def test_a_comparison_is_widened_by_recipes_but_not_changed(run: Path):
  wider = TEXT.replace("('fiat',)", "('fiat', 'beta')") + "beta/Recipe.adapter = 'none'\n"
  claim(run, wider, PRINTS, widens=True)
  with pytest.raises(UserError, match="RECIPES was"):
    claim(run, wider, PRINTS)
  with pytest.raises(UserError, match=r"fiat/Recipe\.reasoning was True, now False"):
    claim(run, wider.replace("True", "False"), PRINTS, widens=True)


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path):
  (tmp_path / "file").write_text("mine")
  for folder in (tmp_path, tmp_path / "file"):
    with pytest.raises(UserError, match=r"is not empty and holds no config\.gin"):
      claim(folder, TEXT, PRINTS)
  with pytest.raises(UserError, match=r"cannot be made .* give another --model_dir"):
    claim(tmp_path / "file" / "below", TEXT, PRINTS)
  assert [path.name for path in tmp_path.iterdir()] == ["file"]
  (tmp_path / "empty").mkdir()
  claim(tmp_path / "empty", TEXT, PRINTS)
  assert (tmp_path / "empty" / "config.gin").is_file()


def test_a_folder_in_which_nothing_was_done_belongs_to_nobody(tmp_path: Path):
  claim(tmp_path, TEXT, PRINTS)  # as --dry_run does
  (tmp_path / "splits.json").write_text("{}")
  other = TEXT.replace("STEPS = 1", "STEPS = 2")
  claim(tmp_path, other, PRINTS, held=False)
  assert "STEPS = 1\n" in (tmp_path / "config.gin").read_text(), "whoever works there may write yet"
  with occupied(tmp_path, other, PRINTS):
    assert "STEPS = 2\n" in (tmp_path / "config.gin").read_text()
    assert not (tmp_path / "splits.json").exists()
  (tmp_path / "checkpoints").mkdir()
  with pytest.raises(UserError, match="STEPS was 2, now 1"), occupied(tmp_path, TEXT, PRINTS):
    pass


WITHOUT = (
  "SEEDS = (0,)\nBETA = 'recorded'\nBETA_URL = ''\nSTORE = ''\nFILTER_GOLD = False\na/Recipe.reasoning = False\n"
)
WITH = WITHOUT.replace("'recorded'", "'openai:big'").replace("URL = ''", "URL = 'u'").replace("E = ''", "E = 'S'")
MORE = WITH.replace("(0,)", "(0, 1)") + "b/Recipe.reasoning = True\n"
BARE, READ = {"train": "t1"}, {"model": "m1", "train": "t1 of S"}


def test_a_comparison_is_widened_by_seeds_a_store_and_a_big_model_and_they_stay(tmp_path: Path):
  begun(tmp_path / "run", WITHOUT)
  claim(tmp_path / "run", MORE, READ, widens=True, bare=BARE)
  before = (tmp_path / "run" / "config.gin").read_bytes()
  assert b"'S'" not in before, "what is only planned is not written down"
  widen(tmp_path / "run", MORE, READ)
  assert (tmp_path / "run" / "config.gin").read_text() == "# model: m1\n# train: t1 of S\n" + MORE
  others = {
    r"SEEDS was \(0, 1\), now \(0,\)": MORE.replace("(0, 1)", "(0,)"),
    r"SEEDS was \(0, 1\), now \(1, 0\)": MORE.replace("(0, 1)", "(1, 0)"),
    "STORE was 'S', now 'T'": MORE.replace("'S'", "'T'"),
    "BETA was 'openai:big', now 'openai:other'": MORE.replace("big", "other"),
    "BETA was 'openai:big', now 'recorded'": MORE.replace("openai:big", "recorded"),
  }
  for difference, text in others.items():
    with pytest.raises(UserError, match=difference):
      claim(tmp_path / "run", text, READ, widens=True, bare=BARE)


def test_a_store_does_not_come_where_reasoning_was_read_without_it_or_rows_would_be_others(tmp_path: Path):
  begun(tmp_path / "fiat", WITHOUT.replace("reasoning = False", "reasoning = True"))
  begun(tmp_path / "plain", WITHOUT)
  with pytest.raises(UserError, match="STORE was '', now 'S'"):
    claim(tmp_path / "fiat", WITH.replace("reasoning = False", "reasoning = True"), READ, widens=True, bare=BARE)
  with pytest.raises(UserError, match="STORE was '', now 'S'"):
    claim(tmp_path / "plain", WITH.replace("GOLD = False", "GOLD = True"), READ, widens=True, bare=BARE)
  with pytest.raises(UserError, match="train was t1, now t2"):
    claim(tmp_path / "plain", WITH, READ, widens=True, bare={"train": "t2"})
  claim(tmp_path / "plain", WITH, READ, bare=BARE)  # a single run, too
