"""Flags, gin files and bindings: one set of names, later ones win, and every mistake is told with what is near."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fiat_jax import flags
from fiat_jax.configuration import Configuration, configure
from fiat_jax.errors import UserError
from fiat_jax.macros import declared
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings

ARGUMENT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))  # what a command line can hold


def configured(*words: str) -> Configuration:
  given = flags.parse(list(words))
  return configure(given.gin_files, given.bindings, given.settings, given.search_paths)


@pytest.fixture
def gin_file(tmp_path: Path):
  def write(text: str, name: str = "my.gin") -> str:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return str(tmp_path / name)

  return write


def test_flags_macros_and_settings_are_the_same_names():
  fields = [field.name for field in dataclasses.fields(Settings)]
  assert sorted(fields) == sorted(name.lower() for name in declared())
  for name in fields:
    value, given = ("True", []) if isinstance(declared()[name.upper()].default, bool) else ("v", ["v"])
    assert flags.parse([f"--{name}", *given]).settings == {name.upper(): value}
    assert f"--{name} " in flags.help_text("train", "says", "example")


def test_every_macro_has_help_and_its_default_is_the_settings_value():
  values = dataclasses.asdict(configured().settings)
  for name, macro in declared().items():
    assert macro.help and values[name.lower()] == macro.default, name


@pytest.mark.parametrize("name", ["data", "train", "validation", "test"])
def test_two_files_of_rows_for_one_flag_are_refused(name: str):
  with pytest.raises(UserError, match=f"--{name} is given twice, as a.csv and b.csv: give one file"):
    flags.parse([f"--{name}", "a.csv", f"--{name}=b.csv"])
  assert flags.parse([f"--{name}", "a.csv", f"--{name}="]).settings == {name.upper(): ""}


def test_of_other_flags_the_last_one_counts():
  assert flags.parse(["--batch", "8", "--batch", "16"]).settings == {"BATCH": "16"}


def test_values_of_every_kind():
  s = configured("--batch", "4", "--epochs=3", "--recipes", "fiat, beta", "--seeds=1,2", "--clip", "1e-1").settings
  assert (s.batch, s.epochs, s.recipes, s.seeds, s.clip) == (4, 3.0, ("fiat", "beta"), (1, 2), 0.1)


@pytest.mark.parametrize(
  ("words", "value"),
  [([], False), (["--dry_run"], True), (["--dry_run=false"], False), (["--dry_run", "false"], False)],
)
def test_a_switch_needs_no_value(words: list[str], value: bool):
  s = configured(*words, "--batch", "4").settings
  assert (s.dry_run, s.batch) == (value, 4)
  assert configured("--gin.DRY_RUN=True").settings.dry_run
  with pytest.raises(UserError, match="give --dry_run, or --dry_run=false"):
    configured("--dry_run=perhaps")


@settings(max_examples=60, deadline=None)
@given(value=ARGUMENT)
def test_a_flag_takes_any_text_unquoted(value: str):
  assert configured(f"--answer={value}").settings.answer == value


@settings(max_examples=60, deadline=None)
@given(value=ARGUMENT)
def test_a_gin_binding_that_is_no_value_is_a_text(value: str):
  got = configured(f"--gin.ANSWER=x {value}").settings.answer
  assert got == f"x {value}"


@pytest.mark.parametrize("binding", ["--gin.MODEL=Qwen/Qwen3-0.6B", "--gin.MODEL='Qwen/Qwen3-0.6B'"])
def test_gin_texts_need_no_quotes(binding: str):
  assert configured(binding).settings.model == "Qwen/Qwen3-0.6B"


def test_backslash_n_is_a_line_end_in_templates_alone():
  s = configured("--input", r"{a}\n{b}", "--instruction", r"Do.\n\n{x}", "--answer", r"\n(?P<answer>.*)").settings
  assert (s.input, s.instruction, s.answer) == ("{a}\n{b}", "Do.\n\n{x}", r"\n(?P<answer>.*)")


UNKNOWN = {
  ("--epoch", "2"): r"the flag --epoch is unknown; did you mean epochs\?",
  ("--gin.EPOCH=2",): r"--gin\.EPOCH: unknown; did you mean EPOCHS\?",
  ("--gin.zzzzzz=2",): r"--gin\.zzzzzz: unknown; there is ADAPTER, ALLOW_CODE_EXECUTION, ANSWER",
  ("--gin.fiat/Recipe.resoning=True",): "doesn't have a parameter named 'resoning'",
  ("--gin.Recipes.reasoning=True",): "No configurable matching 'Recipes'",
  ("--gin.EPOCHS",): "write --gin.NAME=VALUE",
  ("--steps", "1.5"): "--steps 1.5: give a whole number",
  ("--learning_rate", "nan"): "--learning_rate nan: give a number",
  ("--learning_rate", "inf"): "--learning_rate inf: give a number",
  ("--seeds", "1,a"): "--seeds 1,a: give a list",
  ("--gin.STEPS=True",): "STEPS = True: give a whole number",
  ("--gin.STEPS=many",): "STEPS = 'many': give a whole number",
  ("--gin.RECIPES=fiat",): "RECIPES = 'fiat': give a list",
  ("--gin.SEEDS=('a',)",): "SEEDS = .*: give a list",
  ("--source_length", "0"): "--source_length 0: give 1 or more",
  ("--metrics", ","): "--metrics is empty",
  ("--steps", "4", "--epochs", "2"): "--steps 4 and --epochs 2: give one of them",
  ("--quiet=no",): "--quiet=no: give --quiet, or --quiet=false",
  ("--reasoning_dropout", "1"): "--reasoning_dropout 1.0: give 0 or more and less than 1",
  ("--patience", "-1"): "--patience -1: give 0 or more",
  ("--train", "--test"): "--train needs a value",
  ("--train",): "--train needs a value",
  ("rows.jsonl",): "belongs to no flag",
}


@pytest.mark.parametrize("words", UNKNOWN, ids=" ".join)
def test_a_mistake_on_the_command_line_is_told(words: tuple[str, ...]):
  with pytest.raises(UserError, match=UNKNOWN[words]):
    configured(*words)


FILES = {
  "EPOCH = 2.0": r"the gin setting EPOCH is unknown; did you mean EPOCHS\?",
  "EPOCHS = (": "EOF in multi-line statement",
  "EPOCHS = 'a": "my.gin",
  "import no_such_module": "No module named 'no_such_module'",
  "include 'absent.gin'": "absent.gin",
  "fiat/Recipe.adaptr = 'lora'": "adaptr",
  "fiat/Recipe.adapter = 'Lora'": "adapter is 'Lora': give one of lora, rslora, dora, ia3, prompt, full, none",
  "fiat/Recipe.reasoning = 'no'": "the recipe's reasoning is 'no': give True or False",
  "fiat/Recipe.instruction = 0": "the recipe's instruction is 0: give True or False",
  "fiat/Recipe.instruction_tuned = 'no'": "the recipe's instruction_tuned is 'no': give True or False",
  "EPOCHS = %NOTHING": "EPOCHS = %NOTHING leads to no value",
  "EPOCHS = %EPOCHS": "EPOCHS = %EPOCHS leads to no value",
  "EPOCHS = @Recipe()": "give a number",
}


@pytest.mark.parametrize("text", FILES)
def test_a_mistake_in_a_gin_file_is_told(text: str, gin_file, caplog: pytest.LogCaptureFixture):
  with pytest.raises(UserError, match=FILES[text]):
    configured("--gin_file", gin_file(text))
  assert not caplog.records  # gin logs a path that it does not find: our line says it


def test_a_macro_of_the_users_own_is_no_mistake(gin_file):
  s = configured("--gin_file", gin_file("RATE = 0.5\nLEARNING_RATE = %RATE\nCLIP = %LEARNING_RATE")).settings
  assert (s.learning_rate, s.clip) == (0.5, 0.5)


def test_later_ones_win_files_then_bindings_then_flags(gin_file):
  words = ["--gin_file", gin_file("STEPS = 1\nBATCH = 1\nSLOTS = 1\nCLIP = 1", "a.gin")]
  words += ["--gin_file", gin_file("STEPS = 2\nBATCH = 2\nSLOTS = 2", "b.gin")]
  s = configured("--steps", "4", "--gin.STEPS=3", "--gin.BATCH=3", *words).settings
  assert (s.steps, s.batch, s.slots, s.clip) == (4, 3, 2, 1.0)


def test_the_flag_epochs_overrules_steps_that_stand_in_a_file(gin_file):
  file = gin_file("STEPS = 7\nEPOCHS = 1.0")
  assert configured("--gin_file", file, "--epochs", "3").settings.steps == 0
  s = configured("--gin_file", file, "--steps", "5").settings
  assert (s.steps, s.epochs) == (5, 1.0)


@pytest.mark.parametrize(("word", "quiet"), [("--quiet", True), ("--quiet=true", True), ("--quiet=false", False)])
def test_quiet_may_be_said_to_be_false(word: str, quiet: bool):
  assert flags.parse([word]).quiet is quiet


def test_one_command_leaves_nothing_to_the_next():
  configured("--steps", "4")
  assert configured().settings.steps == 0


def test_shipped_files_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
  monkeypatch.chdir(tmp_path)
  s = configured("--gin_file", "gin/tasks/mini_xqa.gin").settings
  assert all(Path(path).is_file() for path in s.files().values()) and len(s.files()) == 3


@pytest.mark.parametrize("name", ["demo", "demo_t5"])
def test_the_demos_name_models_and_recipes_that_there_are(name: str):
  c = configured("--gin_file", f"gin/runs/{name}.gin")
  assert c.settings.model in c.models and c.settings.train and all(map(c.recipe, c.settings.recipes))


def test_a_gin_file_is_found_on_the_search_paths(gin_file, tmp_path: Path):
  gin_file("STEPS = 9")
  assert configured("--gin_search_paths", f"/nowhere,{tmp_path}", "--gin_file", "my.gin").settings.steps == 9


def test_a_recipe_of_the_users_own(gin_file):
  c = configured("--gin_file", gin_file("mine/Recipe.reasoning = True\nmine/Recipe.title = 'Mine'"))
  assert c.recipe("mine") == Recipe(reasoning=True, title="Mine")
  with pytest.raises(UserError, match="did you mean fine_tuning"):
    c.recipe("finetuning")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(ARGUMENT, min_size=4, max_size=4), rate=st.floats(1e-9, 1e3), seeds=st.tuples(st.integers(0)))
def test_its_own_text_gives_the_same_configuration_again(gin_file, texts: list[str], rate: float, seeds: tuple):
  mine = configured("--gin_file", gin_file("mine/Recipe.reasoning = True\nmine/Recipe.title = 'Mine'"))
  words = [f"--{name}={text}" for name, text in zip(("instruction", "answer", "train", "labels"), texts, strict=True)]
  first = configured("--recipes", "fiat,beta", f"--learning_rate={rate!r}", f"--seeds={seeds[0]}", *words)
  again = configured("--gin_file", gin_file(first.text(), "config.gin"))
  assert again.settings == first.settings and again.recipes == first.recipes
  kept = configured("--gin_file", gin_file(mine.replace(recipes=("mine",)).text(), "config.gin"))
  assert kept.recipe("mine") == mine.recipe("mine")


def test_its_own_text_says_nothing_of_what_one_command_does():
  assert "DRY_RUN" not in configured("--dry_run", "--limit", "3").text()


def test_flacunas_run_has_the_published_hyper_parameters():
  made = configured("--gin_file", "gin/runs/flacuna.gin").settings
  published = {
    "objective": "chat",
    "lora_rank": 8,
    "lora_alpha": 16.0,
    "lora_dropout": 0.05,
    "lora_targets": ".*attention/(query|value)",
    "learning_rate": 2e-5,
    "schedule": "cosine",
    "weight_decay": 0.0,
    "epochs": 1.0,
    "batch": 128,
    "source_length": 1280,
    "dtype": "bfloat16",
    "clip": 1.0,
    "recipes": ("fine_tuning",),
  }
  assert {name: getattr(made, name) for name in published} == published
  updates = 1_340_153 * (1 - 0.005) / made.batch
  assert made.warmup * updates == pytest.approx(3000, abs=5)
