"""From what a user calls a model to where it lies: a file, a folder, a bucket, an installed package, the Hub."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from fiat_jax.checkpoints.t5x_store import is_t5x, read_file, read_leaves
from fiat_jax.data.tokenizer_folder import BYTES_CLASS, is_bytes
from fiat_jax.errors import UserError
from fiat_jax.resources import cache_folder

HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja")  # never a pickle
HUB, MADE, PACKAGE = "hub:", "made:", "package:"
MAKING = 1  # part of the folder's name: raise it when what is made changes
SNAPSHOT = re.compile(r"/models--(?P<name>[^/]+)/snapshots/(?P<commit>[0-9a-f]{40})$")  # in the Hub's cache
VOCABULARIES = ("spiece.model", "sentencepiece.model")  # as transformers and as T5X call it
BYTES = "bytes"  # ByT5's vocabulary, which is in no file
BYTE_ROWS = 384  # of ByT5's embedding: three marks, the bytes, 125 extra ids


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
  """Where a named model may be had, first that exists wins: `package:MODULE/FILE`, `hub:OWNER/NAME[@REVISION]`,
  `folder:PLACE`, `made:NAME`, which `fiat train` and `fiat compare` make where nothing before it is to be had.

  A place is a path, `gs://BUCKET/PATH` or `s3://BUCKET/PATH`. `vocabulary` is that of the SentencePiece file of T5X
  checkpoints, which have none of their own, or `bytes`, ByT5's; an embedding of ByT5's 384 rows says so itself.
  """

  sources: Sequence[str] = ()
  vocabulary: str = ""


class Located(NamedTuple):
  """Where a model's weights lie (a path, or a bucket's address), and where its tokenizer."""

  weights: str
  tokenizer: pathlib.Path


def locate(name: str, checkpoint: Checkpoint | None = None) -> Located:
  """Where a model lies.

  Args:
    name: a path, a bucket's address, a Hub name such as `Qwen/Qwen3-0.6B`, or `made:NAME`.
    checkpoint: what `gin/models/` says of that name, if it stands there.

  Raises:
    UserError: there is none, a T5X checkpoint has no vocabulary, or the Hub or the bucket cannot be reached.
  """
  if checkpoint and checkpoint.sources:
    reasons = []
    for source in checkpoint.sources:
      try:
        return _with_tokenizer(str(_from_source(source)), checkpoint.vocabulary)
      except UserError as e:
        reasons.append(str(e))
    raise UserError(f"the model {name!r} is not to be had: {'; '.join(reasons)}")
  if name.startswith(MADE):
    return _with_tokenizer(str(_from_source(name)))
  if is_place(name):
    return _with_tokenizer(os.path.expanduser(name))
  if name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith(".gguf"):
    return _with_tokenizer(str(_from_hub(name)))
  raise UserError(f"the model {name!r} is no file or folder, no name under gin/models/ and no Hub name (OWNER/NAME)")


def public_name(path: str) -> str:
  """What others know a model by that was read from `path`; never a path of this machine.

  `OWNER/NAME@COMMIT` of the Hub, a bucket's address, else the name of the file or folder.
  """
  if hub := SNAPSHOT.search(pathlib.PurePath(path).as_posix()):
    return f"{hub['name'].replace('--', '/')}@{hub['commit']}"
  return path if "://" in path else pathlib.PurePath(path).name


def is_place(name: str) -> bool:
  """Whether a model's name says where it lies: a file, a folder, a bucket's address."""
  return "://" in name or os.path.exists(os.path.expanduser(name))


def _with_tokenizer(weights: str, vocabulary: str = "") -> Located:
  if not is_t5x(weights):
    return Located(weights, pathlib.Path(weights))
  beside = weights.rstrip("/"), weights.rstrip("/").rpartition("/")[0] or "."
  folder = pathlib.Path(weights)
  if "://" not in weights and ((folder / "tokenizer.json").exists() or is_bytes(folder)):
    return Located(weights, folder)
  if vocabulary == BYTES:
    return Located(weights, _kept_bytes())
  places = [vocabulary] if vocabulary else [f"{folder}/{name}" for folder in beside for name in VOCABULARIES]
  for place in places:
    if (content := read_file(place)) is not None:
      return Located(weights, _kept(content))
  if vocabulary:
    raise UserError("no such vocabulary: it is named by the model's Checkpoint.vocabulary in gin", vocabulary)
  if _embedding_rows(weights) == BYTE_ROWS:
    return Located(weights, _kept_bytes())
  raise UserError(
    f"the T5X checkpoint has no vocabulary: put T5's SentencePiece file beside it as {VOCABULARIES[0]}, or name it in "
    "a gin file (NAME/Checkpoint.sources = ('folder:…',), NAME/Checkpoint.vocabulary = '…', or 'bytes') and give "
    "--model NAME",
    weights,
  )


def _embedding_rows(weights: str) -> int:
  """How many rows a T5X checkpoint's embedding has; 0 where it cannot be read, of which more is told when it is."""
  try:
    embedding = read_leaves(weights).get("token_embedder/embedding")
  except UserError:
    return 0
  return embedding.shape[0] if embedding else 0


def _kept_bytes() -> pathlib.Path:
  return _kept(json.dumps({"tokenizer_class": BYTES_CLASS}).encode(), "tokenizer_config.json")


def _kept(vocabulary: bytes, name: str = VOCABULARIES[0]) -> pathlib.Path:
  """A folder that holds the vocabulary under the name that transformers looks for."""
  folder = cache_folder(f"vocabularies/{hashlib.sha256(vocabulary).hexdigest()[:32]}")
  file = folder / name
  if not file.exists():
    partial = folder / f"{os.getpid()}.partial"
    partial.write_bytes(vocabulary)
    os.replace(partial, file)
  return folder


def made_folder(source: str) -> pathlib.Path:
  """Where a model that is made on this machine, `made:NAME`, is kept."""
  return cache_folder("made") / f"{source.removeprefix(MADE)}-{MAKING}"


def _from_source(source: str) -> pathlib.Path | str:
  kind, _, rest = source.partition(":")
  if source.startswith(MADE):
    if not made_folder(source).is_dir():
      raise UserError(f"{rest} is not made on this machine yet: fiat compare --model {source} makes it, and fiat train")
    return made_folder(source)
  if kind == "folder":
    if "://" not in rest and not os.path.isdir(os.path.expanduser(rest)):
      raise UserError("no such folder", rest)
    return os.path.expanduser(rest)
  if kind == "hub":
    return _from_hub(rest)
  if kind != "package":
    raise UserError(f"the source {source!r} begins with none of `package:`, `hub:`, `folder:`, `made:`")
  module, _, file = rest.partition("/")
  spec = importlib.util.find_spec(module)
  for folder in (spec.submodule_search_locations or []) if spec else []:
    if (pathlib.Path(folder) / file).exists():
      return pathlib.Path(folder) / file
  raise UserError(f"the package {module} that carries {file} is not installed: run launch/setup.sh")


def _from_hub(name: str) -> pathlib.Path:
  name, _, revision = name.partition("@")
  import huggingface_hub
  from huggingface_hub import constants, errors

  unreachable: Exception | None = None
  try:  # asked first, for a snapshot asks the same without a time limit
    huggingface_hub.HfApi().model_info(name, revision=revision or None, timeout=constants.HF_HUB_ETAG_TIMEOUT)
  except Exception as e:  # the client raises many kinds where there is no network
    unreachable = e
  try:
    folder = huggingface_hub.snapshot_download(
      name, revision=revision or None, allow_patterns=list(HUB_FILES), local_files_only=unreachable is not None
    )
    return pathlib.Path(folder)
  except Exception as e:
    cause = unreachable or e
  if isinstance(cause, errors.RepositoryNotFoundError):
    raise UserError(f"the Hub has no model {name!r}, or it is gated: check the name and log in with `hf auth login`")
  reason = str(cause).strip().splitlines()[0] if str(cause).strip() else type(cause).__name__
  raise UserError(f"{name} cannot be fetched from the Hub ({reason}): check the network, or give a folder")
