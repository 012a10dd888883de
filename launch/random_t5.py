"""Writes what `bench_t5.sh` times: a T5 1.1 small of random weights that reads bytes, and rows of 511 and 63 of them.

With the end mark these are 512 tokens of source and 64 of target, as the peer is asked to make.
"""

from __future__ import annotations

import json
import pathlib
import random
import string
import sys
from typing import Any

import jax
import numpy as np

from fiat_jax.checkpoints.merged import write_hugging_face
from fiat_jax.models.family import family_of, module_for

DESCRIPTION: dict[str, Any] = {
  "model_type": "t5",
  "d_model": 512,
  "d_kv": 64,
  "d_ff": 1024,
  "num_layers": 8,
  "num_heads": 6,
  "vocab_size": 32128,
  "feed_forward_proj": "gated-gelu",
  "tie_word_embeddings": False,
  "decoder_start_token_id": 0,
}


def main(folder: pathlib.Path, rows: int = 96) -> None:
  family = family_of(module_for(DESCRIPTION, str(folder), "float32"))
  generator = np.random.default_rng(0)
  params = jax.tree.map(lambda leaf: generator.normal(0, 0.05, leaf.shape).astype(np.float32), family.shapes())
  write_hugging_face(folder / "model", params, family, DESCRIPTION)
  (folder / "model" / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}\n')
  letters = random.Random(0)
  text = lambda length: "".join(letters.choices(string.ascii_lowercase, k=length))  # noqa: E731
  lines = [json.dumps({"id": str(n), "input": text(511), "target": text(63)}) for n in range(rows)]
  (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
  main(pathlib.Path(sys.argv[1]))
