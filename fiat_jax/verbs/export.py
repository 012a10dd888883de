"""`fiat export`: a run's best checkpoint in the form that other programs load, or that goes back in as --model."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable, Mapping
from typing import Any

from fiat_jax import launcher, runtime
from fiat_jax.checkpoints.huggingface import read_json
from fiat_jax.checkpoints.locate import public_name
from fiat_jax.checkpoints.merged import write_hugging_face
from fiat_jax.checkpoints.new_folder import new_folder, refuse_taken
from fiat_jax.checkpoints.plain_orbax import write_orbax
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.checkpoints.t5x import write_t5x
from fiat_jax.configuration import Configuration
from fiat_jax.errors import UserError
from fiat_jax.exports import card, deployment, licences, proof
from fiat_jax.models.encoder_decoder import EncoderDecoder
from fiat_jax.models.pretrained import Description
from fiat_jax.progress import say
from fiat_jax.recipe import Recipe
from fiat_jax.settings import Settings
from fiat_jax.training.journal import best_step
from fiat_jax.verbs.best import restore_best
from fiat_jax.verbs.train import one_recipe
from fiat_jax.whole import refuse_unwritable
from fiat_jax.workbench import Workbench, columns

Beside = Callable[[pathlib.Path], None]

FORMATS = ("peft", "huggingface", "t5x", "orbax")
CHECKED = ("peft", "huggingface")  # which transformers and peft load


def main(configuration: Configuration) -> None:
  """Writes the folder OUTPUT, all of it or nothing.

  Raises:
    UserError: the folder is taken, the run has no checkpoint, or the format cannot hold what the run trained.
  """
  settings = configuration.settings
  folder, output = pathlib.Path(settings.model_dir), pathlib.Path(settings.output)
  recipe = configuration.recipe(one_recipe(settings))
  _check(settings, recipe)
  launcher.check_alone(settings, "fiat export")
  runtime.start(settings)
  if settings.weights and settings.format != "peft":
    say(f"the adapter was trained on weights in {settings.weights}; it is merged into the checkpoint's own")
  if not settings.by_loss:
    columns.check_unchanged(settings)
  bench, split = _bench(configuration.replace(weights=""))
  bench.prepare([recipe])
  beside = _proven(bench, recipe, folder, split, settings)
  if settings.format == "peft":
    _copy_adapter(folder, output, beside)
  else:
    write_model(bench, recipe, folder, output, settings.format, beside)
  print(f"{output} holds the run {folder} as {settings.format}{_next(settings)}")


def _bench(configuration: Configuration) -> tuple[Workbench, str]:
  """A bench with the first split whose rows can be read, for the proof; without rows where none can."""
  problem = "the run names no rows with prompts"
  for split in () if configuration.settings.by_loss else ("test", "validation", "train"):
    try:
      if split in configuration.settings.bare_files():
        return Workbench(configuration.only(split)), split
    except UserError as e:
      problem = str(e)
  say(f"warning: {problem}: there will be no parity.jsonl; --test FILE names other rows")
  return Workbench(configuration.only()), ""


def _proven(bench: Workbench, recipe: Recipe, folder: pathlib.Path, split: str, settings: Settings) -> Beside:
  """What writes card, prompts and, where rows could be read, the proof beside the weights."""
  rows = proof.parity(bench, recipe, restore_best(bench, recipe, folder), split) if split else []
  shown = deployment.shown(settings) if recipe.needs_reasoning else ()
  x = "" if settings.by_loss else columns.template(settings, bench.rows[split] if split else (), shown)
  described, adapter = bench.models.of(recipe), _described(folder) if settings.format == "peft" else {}
  origin = bench.configuration.origin(recipe, described.path)
  made = card.Made(
    form=settings.format,
    run=folder,
    recipe=recipe,
    base=public_name(described.path),
    task=described.family.task,
    quantized=_quantized(settings.weights, described, origin),
    proven=bool(rows),
    rank=max([adapter.get("r", 0), *adapter.get("rank_pattern", {}).values()]),
    patterned=bool(adapter.get("rank_pattern") or adapter.get("alpha_pattern")),
    licence=licences.of_base(described.path),
  )

  def write(place: pathlib.Path) -> None:
    card.write_card(place, settings, made)
    if rows:
      card.write_prompts(place, bench, recipe, x)
      proof.write_proof(place, rows, script=settings.format in CHECKED)
    if settings.format == "orbax":
      config = _description(bench.models.of(recipe))
      (place / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if settings.format in CHECKED and not settings.by_loss:
      deployment.write(place, bench, recipe, settings.format, x)

  return write


def _described(folder: pathlib.Path) -> Mapping[str, Any]:
  """What the run's adapter says of itself, where there is one."""
  file = folder / "adapter" / "adapter_config.json"
  return read_json(file) if file.exists() else {}


def _quantized(weights: str, described: Description, origin: str) -> str:
  kept = f", its weights kept in {weights} while this was trained" if weights else ""
  if pathlib.PurePath(described.path).suffix != ".gguf":
    return kept
  return f"{kept}, a GGUF file, whose weights may be rounded,{origin}".rstrip(",")


def _check(settings: Settings, recipe: Recipe) -> None:
  if settings.format not in FORMATS:
    raise UserError(f"--format {settings.format!r}: give one of {', '.join(FORMATS)}")
  if not settings.output:
    raise UserError("no place for what is exported: give --output FOLDER")
  if not recipe.trains:
    raise UserError(f"the recipe {recipe.title!r} tunes nothing: there is nothing to export")
  if settings.format == "peft" and recipe.adapter == "full":
    raise UserError(
      f"--format peft: {recipe.title} trained all parameters, there is no adapter: give --format huggingface (or t5x)"
    )
  if recipe.adapter == "prompt" and settings.format not in ("peft", "orbax"):
    raise UserError(
      f"--format {settings.format}: a soft prompt is no part of any weight and cannot be merged: give --format peft, "
      "which PEFT loads beside the base, or orbax"
    )
  refuse_taken(settings.output)
  refuse_unwritable(pathlib.Path(settings.output), folder=True)


def _copy_adapter(folder: pathlib.Path, output: pathlib.Path, beside: Beside) -> None:
  adapter = folder / "adapter"
  if not adapter.is_dir():
    raise UserError("holds no adapter: give one recipe's run, and let `fiat train` come to its end", folder)
  files = list(adapter.iterdir())
  with new_folder(output, sum(file.stat().st_size for file in files)) as partial:
    for file in files:
      shutil.copy(file, partial / file.name)
    beside(partial)


def write_model(
  bench: Workbench,
  recipe: Recipe,
  folder: pathlib.Path,
  output: pathlib.Path,
  form: str,
  beside: Beside | None = None,
) -> None:
  """Writes the whole model of the best checkpoint in `folder`, its adapter merged in f32 and rounded once.

  `beside` writes what else shall stand in the folder.

  Raises:
    UserError: the form, `huggingface`, `t5x` or `orbax`, cannot hold the model, or there is no checkpoint.
  """
  described = bench.models.of(recipe)
  family, tokenizer = described.family, described.tokenizer
  if form == "t5x" and not isinstance(family, EncoderDecoder):
    raise UserError("--format t5x: T5X has encoder–decoders alone, and this model is none: give --format huggingface")
  trained = restore_best(bench, recipe, folder)
  assert trained is not None, "the recipe trains"
  if form == "orbax":
    whole = bench.models.params(recipe) if recipe.adapter == "prompt" else bench.models.merged(recipe, trained)
    write_orbax(output, whole, trained if recipe.adapts else None, tokenizer, beside)
    return
  params = bench.models.merged(recipe, trained)
  if isinstance(family, EncoderDecoder) and form == "t5x":
    write_t5x(output, params, family.config, best_step(folder, bench.settings.scores[0]), tokenizer, beside)
  else:
    write_hugging_face(output, params, family, _description(described), tokenizer, beside=beside)


def _description(described: Description) -> Mapping[str, Any]:
  """The `config.json` that the model came with, or what its GGUF metadata or T5X shapes say."""
  path = pathlib.Path(described.path)
  if (path / "config.json").exists():
    return read_json(path / "config.json")
  config = open_checkpoint(described.path).config
  if (config.get("rope_scaling") or {}).get("rope_type") == "divisors":
    raise UserError(
      "its rotary factors, as GGUF keeps them, have no form in config.json: train on the model's Hugging Face folder, "
      "or give --format peft",
      described.path,
    )
  return config


def _next(settings: Settings) -> str:
  if settings.format == "peft":
    return f": PeftModel.from_pretrained(model, {settings.output!r}) loads it"
  if settings.format == "orbax":
    return f": {settings.output}/restore.py reads it with orbax.checkpoint alone"
  step = "; T5X takes its step from a name such as checkpoint_100" if settings.format == "t5x" else ""
  return f": --model {settings.output} takes it back in{step}"
