"""What a pretrained checkpoint looks like to the rest: a configuration and tensors read one at a time.

The formats themselves are in `gguf.py` and `huggingface.py`; turning tensors into a model's parameters is elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fiat_jax.checkpoints.t5x_store import is_t5x
from fiat_jax.errors import UserError

if TYPE_CHECKING:
  from fiat_jax.models.registry import Naming  # imports JAX, which `validate` does without

_MIB = 1 << 20


class CheckpointSource(Protocol):
  """A pretrained checkpoint, read lazily.

  Attributes:
    path: the file or folder it is read from, or a bucket's address.
    naming: whose names its tensors have. Under T5X's, kernels are `[in, out]`, and no tensor may be left over.
    config: Hugging Face `config.json` keys (`model_type`, `hidden_size`, `num_hidden_layers`, `rope_theta`, …), with
      `tie_word_embeddings` filled in. What else it leaves out is its family's default (`fiat_jax.models.families`).
    fingerprint: 64 hexadecimal digits that change when the checkpoint does; cheap, so it keys caches.
  """

  @property
  def path(self) -> Path | str: ...

  @property
  def naming(self) -> Naming: ...

  @property
  def config(self) -> dict[str, Any]: ...

  @property
  def fingerprint(self) -> str: ...

  def names(self) -> list[str]:
    """Returns every tensor's name, of Hugging Face's such as `model.layers.3.self_attn.q_proj.weight`, sorted."""
    ...

  def shape(self, name: str) -> tuple[int, ...]:
    """Returns the shape that `read(name)` will have. Raises UserError where there is no such tensor."""
    ...

  def read(self, name: str) -> np.ndarray:
    """Reads one tensor, a new array of the stored float type, in the naming's layout (Hugging Face: `[out, in]`).

    Raises UserError where there is no such tensor or its storage type is not supported.
    """
    ...


def open_checkpoint(path: str | os.PathLike[str]) -> CheckpointSource:
  """Opens a `.gguf` file, a Hugging Face folder, or a T5X folder or its address in a bucket.

  Raises:
    UserError: it is none of these, is damaged or cannot be reached.
  """
  from fiat_jax.checkpoints.gguf import GGUFCheckpoint
  from fiat_jax.checkpoints.huggingface import HuggingFaceCheckpoint

  if is_t5x(os.path.expanduser(path)):
    from fiat_jax.checkpoints.t5x import T5XCheckpoint  # imports JAX, which `validate` does without

    return T5XCheckpoint(os.path.expanduser(path))
  place = Path(path).expanduser()
  if place.is_dir():
    return HuggingFaceCheckpoint(place)
  if not place.exists():
    raise UserError("no such checkpoint: give a .gguf file or a folder with config.json and safetensors", path=place)
  if place.suffix.lower() == ".gguf":
    return GGUFCheckpoint(place)
  raise UserError("not a checkpoint: give a .gguf file or the folder that holds config.json", path=place)


def no_such_tensor(path: Path, name: str) -> UserError:
  return UserError(f"the checkpoint has no tensor {name!r}: is it of another architecture, or incomplete?", path=path)


def fingerprint(config: Mapping[str, Any], shapes: Mapping[str, Sequence[int]], files: Sequence[Path]) -> str:
  """Hashes the configuration, the tensors' names and shapes, and each file's size, first and last MiB.

  Reading whole weights would take minutes for a big model; a changed weight nearly always moves one of these.
  """
  digest = hashlib.sha256()
  described = {"config": config, "shapes": {name: list(shape) for name, shape in sorted(shapes.items())}}
  digest.update(json.dumps(described, sort_keys=True, default=str).encode())
  for file in sorted(files):
    size = file.stat().st_size
    digest.update(f"{size}\n".encode())
    with file.open("rb") as stream:
      digest.update(stream.read(_MIB))
      stream.seek(max(0, size - _MIB))
      digest.update(stream.read(_MIB))
  return digest.hexdigest()
