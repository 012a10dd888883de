"""From what a user calls a model to where it lies: a file, a folder, an installed package, the Hugging Face Hub."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import pathlib
from collections.abc import Sequence

from fiat_jax.errors import UserError

HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")  # never a pickle


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
  """Where a named model may be had, first that exists wins: `package:MODULE/FILE` or `hub:OWNER/NAME`."""

  sources: Sequence[str] = ()


def locate(name: str, checkpoint: Checkpoint | None = None) -> pathlib.Path:
  """The file or folder of a model.

  Args:
    name: a path, or a Hub name such as `Qwen/Qwen3-0.6B`.
    checkpoint: what `gin/models/` says of that name, if it stands there.

  Raises:
    UserError: there is none, or the Hub cannot be reached.
  """
  if checkpoint and checkpoint.sources:
    reasons = []
    for source in checkpoint.sources:
      try:
        return _from_source(source)
      except UserError as e:
        reasons.append(str(e))
    raise UserError(f"the model {name!r} is not to be had: {'; '.join(reasons)}")
  if os.path.exists(os.path.expanduser(name)):
    return pathlib.Path(name).expanduser()
  if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith(".gguf"):
    return _from_hub(name)
  raise UserError(f"the model {name!r} is no file or folder, no name under gin/models/ and no Hub name (OWNER/NAME)")


def _from_source(source: str) -> pathlib.Path:
  kind, _, rest = source.partition(":")
  if kind == "hub":
    return _from_hub(rest)
  if kind != "package":
    raise UserError(f"the source {source!r} begins with neither `package:` nor `hub:`")
  module, _, file = rest.partition("/")
  spec = importlib.util.find_spec(module)
  for folder in (spec.submodule_search_locations or []) if spec else []:
    if (pathlib.Path(folder) / file).exists():
      return pathlib.Path(folder) / file
  raise UserError(f"the package {module} that carries {file} is not installed: run launch/setup.sh")


def _from_hub(name: str) -> pathlib.Path:
  import huggingface_hub
  from huggingface_hub import errors

  try:
    return pathlib.Path(huggingface_hub.snapshot_download(name, allow_patterns=list(HUB_FILES)))
  except errors.RepositoryNotFoundError:
    message = f"the Hub has no model {name!r}, or it is gated: check the name and log in with `hf auth login`"
    raise UserError(message) from None
  except Exception as e:  # the client raises many kinds where there is no network
    reason = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
    raise UserError(f"{name} cannot be fetched from the Hub ({reason}): check the network, or give a folder") from None
