"""T5X checkpoints of encoder–decoders: read as a `CheckpointSource` under T5X's names, and written in its native form.

T5X keeps kernels as [in, out] and relative biases as [heads, buckets], as our tree does.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from fiat_jax.checkpoints import t5x_config
from fiat_jax.checkpoints.new_folder import new_folder
from fiat_jax.checkpoints.source import no_such_tensor
from fiat_jax.checkpoints.t5x_layers import one_by_one
from fiat_jax.checkpoints.t5x_store import folder_spec, read_leaves
from fiat_jax.checkpoints.tokenizer_files import save_tokenizer
from fiat_jax.data.tokenizer import Tokenizer
from fiat_jax.errors import UserError
from fiat_jax.models.registry import Naming
from fiat_jax.models.t5 import T5Config
from fiat_jax.models.t5_registry import t5x_leaves

INLINE_BYTES = 1024  # smaller leaves stand in the msgpack file itself
READERS = 16  # leaves that are sampled at once: a bucket is slow to answer


class T5XCheckpoint:
  """A T5X checkpoint folder as a `CheckpointSource`; layers that T5X scanned are shown one by one.

  Attributes:
    config: what a Hugging Face `config.json` would say, read off the shapes.
  """

  naming: Naming = "t5x"

  def __init__(self, path: str | os.PathLike[str]):
    self.path = os.fspath(path)
    self._leaves = read_leaves(self.path)
    self._tensors = one_by_one(self._leaves, self.path)
    self._shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
    self.config = t5x_config.described(self._shapes, self.path)

  def names(self) -> list[str]:
    return sorted(self._shapes)

  def shape(self, name: str) -> tuple[int, ...]:
    if name not in self._shapes:
      raise no_such_tensor(Path(self.path), name)
    return self._shapes[name]

  def check(self, published: T5Config, name: str) -> None:
    """Raises UserError where the leaves are not those of the published model that the folder is called."""
    t5x_config.check(self._shapes, published, self.path, f"{name} is {t5x_config.in_words(published)}")

  def read(self, name: str) -> np.ndarray:
    self.shape(name)
    return self._tensors[name].read().astype(np.float32)

  @property
  def fingerprint(self) -> str:
    """From names, shapes, every small leaf, and of each large one its chunks' names and a sample of them.

    Whatever rewrites a leaf, such as a merged adapter, moves it, and a bucket is asked for a bounded part.
    """
    leaves = sorted(self._leaves.items())
    digest = hashlib.sha256(json.dumps({name: leaf.shape for name, leaf in leaves}).encode())
    with ThreadPoolExecutor(READERS) as readers:
      for sample in readers.map(lambda item: item[1].sample(), leaves):
        digest.update(hashlib.sha256(sample).digest())
    return digest.hexdigest()


def write_t5x(
  folder: str | os.PathLike[str],
  params: Mapping[str, Any],
  config: T5Config,
  step: int = 0,
  tokenizer: Tokenizer | None = None,
  beside: Callable[[Path], None] | None = None,
) -> None:
  """Writes parameters as T5X's native checkpoint: `checkpoint` and a zarr folder for each large leaf.

  There is a step and no optimizer's state: T5X restores parameters from it.

  The tokenizer's files stand beside them, which T5X does not look at, and what `beside` writes.

  The folder appears whole or not at all; T5X takes its step from the name `checkpoint_STEP`.

  Raises:
    UserError: there is something already, or the model would not be known again.
  """
  import tensorstore
  from flax import serialization

  if config.gated and config.tied_head:
    raise UserError("T5X has no gated T5 with a tied head, and would take the head for lost: give --format huggingface")
  with new_folder(folder, sum(leaf.nbytes for leaf in jax.tree.leaves(params))) as partial:
    if tokenizer:
      save_tokenizer(tokenizer, partial)
    target: dict[str, Any] = {}
    for leaf in t5x_leaves(config):
      values: Any = params
      for part in leaf.path:
        values = values[part]
      for number in range(values.shape[0]) if leaf.stacked else (None,):
        *parts, last = leaf.source.format(number).split("/")
        node = target
        for part in parts:
          node = node.setdefault(part, {})
        array = np.ascontiguousarray(values if number is None else values[number])
        if array.nbytes < INLINE_BYTES:
          node[last] = array
          continue
        name = ".".join(["target", *parts, last])
        spec = _spec(array, name)
        place = {**spec, "kvstore": {**folder_spec(str(partial)), "path": f"{partial}/{name}/"}}
        tensorstore.open(place, create=True, open=True).result().write(array).result()
        node[last] = spec
    content = {"version": 3, "optimizer": {"target": target, "state": {"step": np.int32(step), "param_states": {}}}}
    (partial / "checkpoint").write_bytes(serialization.msgpack_serialize(content))
    if beside:
      beside(partial)


def _spec(array: np.ndarray, name: str) -> dict[str, Any]:
  """TensorStore's; bfloat16 as such, for T5X refuses the uint16 that its own versions of old wrote."""
  metadata = {"shape": list(array.shape), "chunks": list(array.shape), "compressor": {"id": "gzip", "level": 1}}
  return {
    "driver": "zarr",
    "dtype": array.dtype.name,
    "kvstore": {"driver": "file", "path": name},
    "metadata": metadata,
  }
