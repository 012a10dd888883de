"""Models that are made where they cannot be fetched: the source `made:mini_t5` of a name under `gin/models/`.

A small T5 learns to copy, by this package's own full fine-tuning, from the training rows of the set that ships.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil

from fiat_jax import configuration, resources, runtime
from fiat_jax.checkpoints.locate import MADE, Checkpoint, locate, made_folder
from fiat_jax.checkpoints.merged import write_hugging_face
from fiat_jax.configuration import Configuration
from fiat_jax.data.copying import write_copying_rows
from fiat_jax.data.small_vocabulary import write_vocabulary
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models.family import family_of, module_for
from fiat_jax.models.lora import count
from fiat_jax.models.t5 import T5
from fiat_jax.models.t5_initial import initial_params
from fiat_jax.progress import say
from fiat_jax.verbs.export import write_model
from fiat_jax.verbs.train import train_recipe
from fiat_jax.workbench import Workbench

RECIPE = "full_fine_tuning"
PIECES = 1200
SENTENCES = 4  # before the cue
VALIDATED = 64  # rows
SHAPE = {"d_model": 128, "num_heads": 4, "d_kv": 32, "d_ff": 256, "num_layers": 2, "num_decoder_layers": 1}
SHAPE |= {"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": True}
SHAPE |= {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
TRAINING = {"BATCH": "32", "LEARNING_RATE": "0.003", "METRICS": "exact_match", "TARGET_LENGTH": "64"}
STEPS = 500


def see_to(configured: Configuration, steps: int = 0) -> None:
  """Makes the model that the command works on, where it has such a source and no source before that is to be had.

  Args:
    steps: of its training; 0: as many as it takes to copy.
  """
  checkpoint = configured.models.get(configured.settings.model, Checkpoint())
  number = next((n for n, source in enumerate(checkpoint.sources) if source.startswith(MADE)), None)
  if number is None:
    return
  folder = made_folder(checkpoint.sources[number].removeprefix(MADE))
  if folder.is_dir():
    return
  try:
    locate(configured.settings.model, Checkpoint(sources=checkpoint.sources[:number]))
  except UserError as e:
    say(f"{e}\n")
    _make(folder, steps or STEPS)


def _make(folder: pathlib.Path, steps: int) -> None:
  """Trains it in a folder beside its own; one that was stopped goes on."""
  say(
    "In its place a small T5 is made now, in a few minutes: random parameters, trained to copy what stands behind a "
    "cue out of sentences of tasks/mini_xqa/train.jsonl. It knows no language and has followed no instruction."
  )
  runtime.start()
  work = folder.with_name(f"{folder.name}.work")
  passages = _passages()
  if not (work / "model").is_dir():
    write_copying_rows(work / "train.jsonl", passages, steps * int(TRAINING["BATCH"]), SENTENCES, seed=0)
    write_copying_rows(work / "validation.jsonl", passages, VALIDATED, SENTENCES, seed=1)
    _write_initial(work / "model")
  flags = {"MODEL": str(work / "model"), "MODEL_DIR": str(work / "run"), "STEPS": str(steps), "RECIPES": RECIPE}
  flags |= {split.upper(): str(work / f"{split}.jsonl") for split in ("train", "validation")}
  configured = configuration.configure([], [], TRAINING | flags)
  recipe = configured.recipe(RECIPE)
  bench = Workbench(configured)
  bench.prepare([recipe])
  result = train_recipe(bench, RECIPE, recipe, work / "run", seed=0)
  partial = work / "whole"
  shutil.rmtree(partial, ignore_errors=True)
  write_model(bench, recipe, work / "run", partial, "huggingface")
  if not folder.exists():  # another process may have made the same
    os.rename(partial, folder)
  shutil.rmtree(work, ignore_errors=True)
  copied = result["validation"]["overall"]["exact_match"]
  say(f"the small T5 is made: it copies {copied:.0f} of 100 such texts without a fault; it is kept in {folder}\n")


def _rows() -> list[dict]:
  """The training rows that ship; validation and test are not looked at."""
  file = resources.shipped("tasks") / "mini_xqa" / "train.jsonl"
  return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _passages() -> list[str]:
  return sorted({row["passage"] for row in _rows()})


def _write_initial(folder: pathlib.Path) -> None:
  """A Hugging Face folder: vocabulary and random parameters."""
  vocabulary = folder.with_name("vocabulary")
  texts = [row[name] for row in _rows() for name in ("passage", "reasoning", "question", "target")]
  ids = write_vocabulary(vocabulary, texts, PIECES)
  described = SHAPE | {"vocab_size": -(-ids // 64) * 64}
  module = module_for(described, str(folder), "float32")
  assert isinstance(module, T5)
  params = initial_params(module.config, seed=0)
  say(f"it has {count(params):,} parameters and {ids} pieces of words")
  write_hugging_face(folder, params, family_of(module), described, Tokenizer.load(vocabulary))
