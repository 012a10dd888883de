"""A model that cannot be fetched is made: of training rows alone, the same again, once, and tuned like any other."""

from __future__ import annotations

import json
import pathlib
import threading
import time

import numpy as np
import pytest
from commands import records, results

from fiat_jax import cli, resources, signals
from fiat_jax.checkpoints.locate import Checkpoint, locate, made_folder
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.configuration import configure
from fiat_jax.data.copying import CUES, write_copying_rows
from fiat_jax.data.rows import Layout, read_rows
from fiat_jax.data.small_vocabulary import write_vocabulary
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models.t5 import T5Config
from fiat_jax.models.t5_initial import initial_params
from fiat_jax.models.t5_registry import t5_shapes
from fiat_jax.run_lock import locked
from fiat_jax.verbs import made

SOURCE = "made:mini_t5"
TEXTS = ["The sky is blue. A leaf is green.", "What colour is a plum?", "It was read. So the answer is never this."]


@pytest.fixture
def no_network(monkeypatch, tmp_path):
  """No Hub, and a cache of the test's own."""
  monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
  monkeypatch.setenv("FIAT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def made_at_once(monkeypatch):
  """In place of a training of some minutes; counts how many there were."""
  makings = []
  monkeypatch.setattr(made, "_make", lambda folder, settings: makings.append(folder) or folder.mkdir())
  return makings


@pytest.fixture
def demo(tmp_path):
  return configure(["gin/runs/demo_t5.gin"], [], {"MODEL_DIR": str(tmp_path / "run")})


def test_rows_copy_what_stands_behind_a_cue_and_a_seed_gives_them_again(tmp_path: pathlib.Path):
  for name, seed in (("one", 0), ("again", 0), ("other", 1)):
    write_copying_rows(tmp_path / f"{name}.jsonl", TEXTS, 50, 3, seed)
  read = lambda name: (tmp_path / f"{name}.jsonl").read_bytes()  # noqa: E731
  assert read("one") == read("again") != read("other")
  for row in read_rows(str(tmp_path / "one.jsonl"), Layout()):
    assert any(f"{cue} {row.targets[0]}." in row.x for cue in CUES) and "never this" not in row.x


def test_a_small_vocabulary_is_t5_s(tmp_path: pathlib.Path):
  size = write_vocabulary(tmp_path, ["red blue green apple plum sky leaf"] * 9, 60)
  tokenizer = Tokenizer.load(tmp_path)
  assert tokenizer.for_encoder and tokenizer.vocab_size == size
  assert tokenizer.decode(tokenizer.encode("red plum")) == "red plum"
  assert tokenizer.hugging_face.convert_tokens_to_ids("<extra_id_0>") == size - 1


def test_a_token_passes_through_cross_attention_as_it_is():
  config = T5Config(vocab_size=50, width=32, encoder_layers=2, decoder_layers=1, heads=4, head_dim=8, ffn_width=48)
  params = initial_params(config, seed=0)
  attention = params["decoder"]["layers"]["cross_attention"]
  np.testing.assert_allclose(attention["value"]["kernel"][0] @ attention["out"]["kernel"][0], np.eye(32), atol=1e-5)
  shapes = t5_shapes(config)
  assert params["encoder"]["relative_bias"].shape == shapes["encoder"]["relative_bias"].shape
  assert [set(row) for row in params["encoder"]["relative_bias"][3:]] == [{0.0}]
  assert (params["encoder"]["relative_bias"][:3].max(axis=1) == 4).all()


def test_it_is_made_once_where_no_source_before_is_to_be_had(no_network, demo, made_at_once, capsys):
  with pytest.raises(UserError, match=r"mini_t5 is not made .* yet: fiat compare --model made:mini_t5 makes it"):
    locate("demo_t5", demo.models["demo_t5"])
  assert made.settled(demo).settings.model == SOURCE
  said = capsys.readouterr().err
  assert "mt0-small cannot be fetched" in said and "knows no language" in said
  folder = made_folder(SOURCE)
  assert locate("demo_t5", demo.models["demo_t5"]).weights == locate(SOURCE).weights == str(folder)
  assert made.settled(demo.replace(model=SOURCE)).settings.model == SOURCE and made_at_once == [folder]
  said = capsys.readouterr().err
  assert "knows no language" in said and "Hub" not in said


def test_a_source_before_it_is_taken_where_it_is_to_be_had(no_network, demo, tmp_path: pathlib.Path):
  (tmp_path / "fetched").mkdir()
  fetched = {"demo_t5": Checkpoint(sources=(f"folder:{tmp_path}/fetched", SOURCE))}
  object.__setattr__(demo, "models", fetched)
  assert made.settled(demo) == demo and not made_folder(SOURCE).exists()


def test_of_two_that_make_it_one_waits(no_network, demo, made_at_once, capsys):
  folder = made_folder(SOURCE)

  def other():
    with locked(folder.parent):
      holds.set()
      time.sleep(0.3)
      folder.mkdir()

  holds = threading.Event()
  thread = threading.Thread(target=other)
  thread.start()
  holds.wait()
  made.settled(demo)
  thread.join()
  assert "another process is making it" in capsys.readouterr().err and not made_at_once


def test_a_model_without_such_a_source_is_left_alone():
  assert not configure([], [], {"MODEL": "mt0_small"}).made_source and not made.note("mt0_small")
  with pytest.raises(UserError, match="begins with none of"):
    locate("mine", Checkpoint(sources=("baked:mini_t5",)))


def test_only_training_rows_are_read(monkeypatch):
  asked = []
  whole = pathlib.Path.read_text
  monkeypatch.setattr(pathlib.Path, "read_text", lambda self, *a, **k: asked.append(self.name) or whole(self, *a, **k))
  texts = set(made._texts())
  assert asked == ["train.jsonl"]
  for split in ("validation", "test"):
    lines = whole(resources.shipped("tasks") / "mini_xqa" / f"{split}.jsonl", encoding="utf-8").splitlines()
    assert not texts & {json.loads(line)["passage"] for line in lines}


def test_a_model_that_is_not_made_yet_is_asked_for_in_one_line(no_network, capsys):
  words = ["--gin_file", "gin/tasks/mini_xqa.gin", "--model", "demo_t5", "--recipes", "untuned"]
  for verb, *more in (("validate", "--show", "1"), ("evaluate",)):
    assert cli.main([verb, *words, *more]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "not made on this machine yet: fiat compare --model made:mini_t5 makes it" in line


@pytest.mark.slow
def test_the_demo_on_a_t5_is_stopped_goes_on_and_ends_in_a_verdict(no_network, monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(made, "STEPS", 40)
  run, folder = tmp_path / "run", made_folder(SOURCE)
  words = ["compare", "--gin_file", "gin/runs/demo_t5.gin", "--steps", "2", "--model_dir", str(run)]
  threading.Thread(target=_stop_at_step, args=(folder.with_name(f"{folder.name}.work") / "run", 5)).start()
  assert cli.main(words) == 143 and not folder.exists()
  signals._received.clear()
  capsys.readouterr()
  assert cli.main(words) == 0
  captured = capsys.readouterr()
  assert "going on from step" in captured.err and results(run)["verdict"]["words"] in captured.out
  assert [path.name for path in folder.parent.iterdir()] == [folder.name]
  for place in (captured.err, captured.out, (run / "report.md").read_text()):
    assert "knows no language" in place
  config = (run / "fiat" / "config.gin").read_text()
  assert f"MODEL = '{SOURCE}'" in config and f"# model: {open_checkpoint(folder).fingerprint}" in config
  words = ["--model_dir", str(run / "fiat"), "--test", "tasks/mini_xqa/test.jsonl[:3]"]
  assert cli.main(["predict", *words, "--output", str(tmp_path / "answers.jsonl")]) == 0
  assert cli.main(["evaluate", *words]) == 0 and len(records(tmp_path / "answers.jsonl")) == 3


def _stop_at_step(run: pathlib.Path, step: int) -> None:
  """What SIGTERM does, once the run is at a step."""
  while not ((log := run / "metrics.jsonl").exists() and f'"step": {step}' in log.read_text()):
    time.sleep(0.05)
  signals._received.append(15)
