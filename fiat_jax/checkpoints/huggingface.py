"""Hugging Face checkpoint folders: `config.json` and safetensors, whole or in shards. Never a pickle.

Models are not known here: a tensor is read under the name that it was saved with, but for models of text and pictures
that transformers 4 saved: transformers 5 has the text's part elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from fiat_jax.checkpoints.source import fingerprint, no_such_tensor
from fiat_jax.errors import UserError

if TYPE_CHECKING:
  from fiat_jax.models.registry import Naming

_FLOATS = ("F64", "F32", "F16", "BF16")
_PICKLES = ("*.bin", "*.pt", "*.pth")


class HuggingFaceCheckpoint:
  """A Hugging Face folder as a `CheckpointSource`. Raises UserError where a file is missing or damaged."""

  naming: Naming = "hugging_face"

  def __init__(self, path: Path):
    self.path = path
    config = read_json(path / "config.json")
    self._shards = {file: _open(file) for file in _weight_files(path)}
    stored = {name: file for file, shard in self._shards.items() for name in shard.keys()}  # noqa: SIM118
    self._check_index(stored)
    self._stored = {_today(name): name for name in stored}
    self._files = {_today(name): file for name, file in stored.items()}
    self.config = _complete(config, tied="lm_head.weight" not in self._files, path=path)

  def names(self) -> list[str]:
    return sorted(self._files)

  def shape(self, name: str) -> tuple[int, ...]:
    return tuple(self._shard(name).get_slice(self._stored[name]).get_shape())

  def read(self, name: str) -> np.ndarray:
    shard = self._shard(name)
    if (kind := shard.get_slice(self._stored[name]).get_dtype()) not in _FLOATS:
      raise UserError(f"{name} is stored as {kind}: save the model unquantized", path=self._files[name])
    # Opened anew: what is read through one mapping stays in memory as long as the mapping, a second set of weights.
    with safe_open(self._files[name], framework="numpy") as file:
      return file.get_tensor(self._stored[name])

  @property
  def fingerprint(self) -> str:
    shapes = {name: self.shape(name) for name in self._files}
    return fingerprint(self.config, shapes, list(self._shards))

  def _shard(self, name: str) -> Any:
    if name not in self._files:
      raise no_such_tensor(self.path, name)
    return self._shards[self._files[name]]

  def _check_index(self, stored: Mapping[str, Path]) -> None:
    index = self.path / "model.safetensors.index.json"
    if len(self._shards) == 1 and not index.exists():
      return
    if missing := sorted(set(_weight_map(index)) - set(stored)):
      raise UserError(f"no shard holds {missing[0]!r}, which the index lists: fetch the folder again", path=index)


def read_json(path: Path) -> dict[str, Any]:
  """Reads a JSON object. Raises UserError where the file is missing or is not one."""
  try:
    value = json.loads(path.read_text(encoding="utf-8"))
  except FileNotFoundError as error:
    raise UserError("no such file: is the folder a whole Hugging Face checkpoint?", path=path) from error
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"cannot read the file: {error}", path=path) from error
  except json.JSONDecodeError as error:
    raise UserError(f"not valid JSON ({error.msg}): fetch the file again", path=path, line=error.lineno) from error
  if not isinstance(value, dict):
    raise UserError("not a JSON object: fetch the file again", path=path)
  return value


def _today(name: str) -> str:
  """A tensor's name in transformers 5."""
  if name.startswith("language_model.model."):
    return "model.language_model." + name.removeprefix("language_model.model.")
  return name.removeprefix("language_model.") if name == "language_model.lm_head.weight" else name


def _weight_map(index: Path) -> dict[str, str]:
  weight_map = read_json(index).get("weight_map")
  if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
    raise UserError("the index has no weight_map of tensor names to files: fetch it again", path=index)
  return weight_map


def _weight_files(path: Path) -> list[Path]:
  whole, index = path / "model.safetensors", path / "model.safetensors.index.json"
  if whole.exists():
    return [whole]
  if not index.exists():
    if any(file for pattern in _PICKLES for file in path.glob(pattern)):
      raise UserError(
        "only pickled weights, which can run code when loaded: convert them to safetensors "
        "(model.save_pretrained(folder, safe_serialization=True) where they are trusted)",
        path=path,
      )
    raise UserError("no model.safetensors and no model.safetensors.index.json: fetch the weights", path=path)
  files = sorted(set(_weight_map(index).values()))
  if missing := [file for file in files if Path(file).name != file or not (path / file).is_file()]:
    raise UserError(f"{len(missing)} of {len(files)} shards are missing, such as {missing[0]}: fetch them", path=path)
  return [path / file for file in files]


def _open(file: Path) -> Any:
  try:
    return safe_open(file, framework="np")
  except (SafetensorError, OSError) as error:
    raise UserError(f"damaged or cut short ({error}): fetch the file again", path=file) from error


def _complete(config: dict[str, Any], tied: bool, path: Path) -> dict[str, Any]:
  """Says whether the head is tied where `config.json` does not, and names rotary settings as transformers 4 does."""
  if "model_type" not in config:
    raise UserError("config.json lacks model_type: is this a transformers checkpoint?", path=path / "config.json")
  tied = tied or config["model_type"] == "t5"  # its folders may hold the tied head a second time
  config = {"tie_word_embeddings": tied, **config}
  rope = config.get("rope_parameters") or {}  # where transformers 5 keeps the base and the scaling
  if "rope_theta" in rope:
    config["rope_theta"] = rope["rope_theta"]
  if rope.get("rope_type", "default") != "default":
    config["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
  return config
