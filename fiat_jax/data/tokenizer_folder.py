"""The transformers tokenizer of a checkpoint's folder, and whether an encoder reads what it writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fiat_jax.checkpoints.huggingface import read_json
from fiat_jax.data.byt5_tokenizer import byt5_tokenizer
from fiat_jax.data.sentence_pieces import t5_tokenizer
from fiat_jax.errors import UserError

BYTES_CLASS = "ByT5Tokenizer"
ENCODER_TYPES = ("t5", "mt5", "umt5")


def load_folder(path: Path) -> tuple[Any, list[int]]:
  """Returns a folder's transformers tokenizer and further ids that end a turn. Raises UserError where there is none."""
  from transformers import AutoTokenizer

  if is_bytes(path):
    return byt5_tokenizer(), []
  # Beside T5X checkpoints nothing says whose the SentencePiece model is; older folders name a class that is gone.
  alone = (path / "spiece.model").exists() and not (path / "tokenizer.json").exists()
  try:
    if alone:
      wrapped = t5_tokenizer(path / "spiece.model")
    else:
      wrapped = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
  except Exception as error:  # transformers raises whatever its many loaders do
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    raise UserError(
      f"no tokenizer could be loaded ({reason}): is tokenizer.json there, or T5's spiece.model?", path=path
    ) from error
  if not getattr(wrapped, "backend_tokenizer", None):
    raise UserError("the tokenizer has no fast form: save it with a tokenizer.json", path=path)
  settings = path / "generation_config.json"
  ends = read_json(settings).get("eos_token_id") if settings.exists() else None
  return wrapped, [ends] if isinstance(ends, int) else list(ends or [])


def is_t5(hugging_face: Any) -> bool:
  """Whether a tokenizer is of T5's own class."""
  return any(kind.__name__ == "T5Tokenizer" for kind in type(hugging_face).__mro__)


def is_bytes(path: Path) -> bool:
  """Whether a folder's vocabulary is ByT5's, which is in no file: `tokenizer_config.json` names its class."""
  described = path / "tokenizer_config.json"
  return described.exists() and read_json(described).get("tokenizer_class") == BYTES_CLASS


def of_encoder(path: Path) -> bool | None:
  """Whether a folder is an encoder–decoder's; None where it holds no model and its vocabulary does not say."""
  config = path / "config.json"
  if config.exists():
    return read_json(config).get("model_type") in ENCODER_TYPES
  return is_bytes(path) or None
