"""A run folder belongs to one configuration, one model and the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from fiat_jax.errors import UserError
from fiat_jax.run_folder import claim

TEXT = "TRAIN = 'a.jsonl'\nSTEPS = 1\nSLOTS = 4\nRECIPES = ('fiat',)\nfiat/Recipe.reasoning = True\n"
PRINTS = {"model": "m1", "train": "t1"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
  claim(tmp_path / "runs" / "mine", TEXT, PRINTS)
  return tmp_path / "runs" / "mine"


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
