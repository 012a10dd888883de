"""Models that are made where they cannot be fetched: the source `made:mini_t5` of a name under `gin/models/`.

A small T5 learns to copy, by this package's own full fine-tuning, from the training rows of the set that ships.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import pathlib
import shutil
import time
from collections.abc import Iterator

from fiat_jax import configuration, launcher, resources, runtime, signals
from fiat_jax.checkpoints.locate import MADE, Checkpoint, locate, made_folder
from fiat_jax.checkpoints.merged import write_hugging_face
from fiat_jax.configuration import Configuration
from fiat_jax.data.copying import CUES, write_copying_rows
from fiat_jax.data.small_vocabulary import write_vocabulary
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models.family import family_of, module_for
from fiat_jax.models.t5 import T5
from fiat_jax.models.t5_initial import initial_params
from fiat_jax.progress import say
from fiat_jax.run_lock import locked
from fiat_jax.settings import Settings
from fiat_jax.verbs.export import write_model
from fiat_jax.verbs.tuning import train_recipe
from fiat_jax.workbench import Workbench

NOTE = (
  "The tuned model is a T5 of 0.7 million parameters that is made on this machine: from random parameters it learned "
  f"to copy what stands behind a cue such as '{CUES[0]}' in texts of tasks/mini_xqa/train.jsonl, and nothing else. It "
  "knows no language and has followed no instruction. That it uses reasoning which ends in such a cue is what it was "
  "made for: how much reasoning helps a model that can read is not to be learned from it."
)
RECIPE = "full_fine_tuning"
PIECES = 1200
SENTENCES = 8  # before the cue, at the most
VALIDATED = 64  # rows
SHAPE = {"d_model": 128, "num_heads": 4, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_decoder_layers": 1}
SHAPE |= {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": True}
SHAPE |= {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
TRAINING = {"BATCH": "32", "LEARNING_RATE": "0.003", "METRICS": "exact_match", "TARGET_LENGTH": "64"}
STEPS = 600


def settled(configured: Configuration) -> Configuration:
  """The same where a source of the tuned model is to be had before the one that is made; else its MODEL is that one.

  It is made where it is not there yet. A run's settings name what it tuned, whatever can be fetched a day later.
  """
  name, source = configured.settings.model, configured.made_source
  sources = configured.models.get(name, Checkpoint()).sources
  if before := tuple(itertools.takewhile(lambda other: other != source, sources)):
    try:
      locate(name, Checkpoint(sources=before))
      return configured
    except UserError as e:
      say(str(e))
  say(NOTE)
  folder = made_folder(source)
  with _alone(folder.parent):
    if not folder.is_dir():
      launcher.check_alone(configured.settings, "making the tuned model")
      _make(folder, configured.settings)
  return configured.replace(model=source)


def note(model: str) -> str:
  """What is to be said of a comparison on this model; nothing of one that was not made here."""
  return NOTE if model.startswith(MADE) else ""


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
  """Holds the folder for this process, as soon as no other makes a model there."""
  with contextlib.ExitStack() as held:
    for waited in itertools.count():
      try:
        held.enter_context(locked(folder))
        break
      except UserError:
        if not waited:
          say("another process is making it: waiting until that has ended")
        signals.check()
        time.sleep(1)
    yield


def _make(folder: pathlib.Path, settings: Settings) -> None:
  """Trains it in a folder beside its own; one that was stopped goes on."""
  say("It is made now, in a few minutes, once.")
  runtime.start(settings)
  work = folder.with_name(f"{folder.name}.work")
  if not (work / "model").is_dir():  # which is written last
    texts = _texts()
    write_copying_rows(work / "train.jsonl", texts, STEPS * int(TRAINING["BATCH"]), SENTENCES, seed=0)
    write_copying_rows(work / "validation.jsonl", texts, VALIDATED, SENTENCES, seed=1)
    _write_initial(work / "model", texts)
  flags = {"MODEL": str(work / "model"), "MODEL_DIR": str(work / "run"), "STEPS": str(STEPS), "RECIPES": RECIPE}
  flags |= {split.upper(): str(work / f"{split}.jsonl") for split in ("train", "validation")}
  configured = configuration.configure([], [], TRAINING | flags)
  recipe = configured.recipe(RECIPE)
  bench = Workbench(configured)
  bench.prepare([recipe])
  result = train_recipe(bench, RECIPE, recipe, work / "run", seed=0)
  write_model(bench, recipe, work / "run", folder, "huggingface")
  shutil.rmtree(work, ignore_errors=True)
  copied = result["validation"]["overall"]["exact_match"]
  say(f"It is made: it copies {copied:.0f} of 100 such texts without a fault. It is kept in {folder}.\n")


def _texts() -> list[str]:
  """What stands in the training rows that ship; validation and test are not looked at."""
  file = resources.shipped("tasks") / "mini_xqa" / "train.jsonl"
  rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
  return list(dict.fromkeys(row[name] for row in rows for name in ("passage", "reasoning", "question")))


def _write_initial(folder: pathlib.Path, texts: list[str]) -> None:
  """A Hugging Face folder: vocabulary and random parameters."""
  vocabulary = folder.with_name("vocabulary")
  described = SHAPE | {"vocab_size": -(-write_vocabulary(vocabulary, texts, PIECES) // 64) * 64}
  module = module_for(described, str(folder), "float32")
  assert isinstance(module, T5)
  params = initial_params(module.config, seed=0)
  write_hugging_face(folder, params, family_of(module), described, Tokenizer.load(vocabulary))
