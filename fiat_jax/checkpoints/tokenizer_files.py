"""The files of a tokenizer, written beside a model that is exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from fiat_jax.data.sentence_pieces import holds_extra_ids
from fiat_jax.data.tokenizer import Tokenizer

FILES = (
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "spiece.model",
  "tokenizer.model",
  "vocab.json",
  "merges.txt",
  "chat_template.jinja",
  "generation_config.json",
)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
  """Copies the files that it was loaded from; of a GGUF file, which has none, writes them."""
  if tokenizer.path and tokenizer.path.is_dir():
    for name in FILES:
      if (tokenizer.path / name).exists():
        shutil.copy(tokenizer.path / name, folder / name)
    lone = tokenizer.path / "spiece.model"
    # Of a lone file transformers does not see that the extra ids are in it, and would append them once more.
    if lone.exists() and not (folder / "tokenizer.json").exists() and holds_extra_ids(lone):
      tokenizer.hugging_face.save_pretrained(folder)
    return
  tokenizer.hugging_face.save_pretrained(folder)
  described = {"eos_token_id": list(tokenizer.stop_ids), "pad_token_id": tokenizer.pad_id}
  described |= {"bos_token_id": tokenizer.bos_id} if tokenizer.bos_id is not None else {}
  (folder / "generation_config.json").write_text(json.dumps(described, indent=2) + "\n")
