"""Times the export of a merged model against the bare disk: python launch/bench_export.py FOLDER [large|xl]

A Flan-T5 of random weights in bf16 and LoRA on every linear layer: merged in f32, rounded once, written as Hugging Face
has it. Beside it the same bytes are copied. Prints both rates, and the most memory that the merge and the
writing took, as a share of the weights.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import shutil
import sys
import time

import jax
import jax.numpy as jnp

from fiat_jax.checkpoints.merged import write_hugging_face
from fiat_jax.models import adapters
from fiat_jax.models.family import family_of, module_for
from fiat_jax.models.lora import EVERY_LINEAR, LoraConfig

SHAPES = {
  "large": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16},
  "xl": {"d_model": 2048, "d_ff": 5120, "num_layers": 24, "num_heads": 32},
}
COMMON = {"model_type": "t5", "d_kv": 64, "vocab_size": 32128, "feed_forward_proj": "gated-gelu"}


def main(folder: pathlib.Path, size: str = "large") -> None:
  description = COMMON | SHAPES[size] | {"tie_word_embeddings": False, "decoder_start_token_id": 0}
  family = family_of(module_for(description, str(folder), "bfloat16"))
  keys = iter(jax.random.split(jax.random.key(0), len(jax.tree.leaves(family.shapes()))))
  params = jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape, jnp.bfloat16), family.shapes())
  config = LoraConfig(rank=16, targets=EVERY_LINEAR)
  trained = jax.block_until_ready(adapters.fresh(jax.random.key(1), params, config))
  weights = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
  before, began = _resident(), time.monotonic()
  merged = adapters.merge(params, trained, config, {}, consumes=True)
  del params
  jax.block_until_ready(merged)
  took_merging = time.monotonic() - began
  began = time.monotonic()
  write_hugging_face(folder / "merged", merged, family, description)
  _to_disk(folder / "merged")
  took_writing = time.monotonic() - began
  more = _peak() - before
  print(
    json.dumps(
      {
        "weights_mb": weights >> 20,
        "merging_mb_per_s": round((weights >> 20) / took_merging),
        "writing_mb_per_s": round((weights >> 20) / took_writing),
        "disk_mb_per_s": round((weights >> 20) / _plainly(folder / "merged", folder / "plain")),
        "more_memory_share": round(more / weights, 3),
      }
    )
  )


def _plainly(exported: pathlib.Path, folder: pathlib.Path) -> float:
  """The seconds that the same bytes take, with nothing done to them; they are still in memory."""
  began = time.monotonic()
  shutil.copytree(exported, folder)
  _to_disk(folder)
  return time.monotonic() - began


def _to_disk(folder: pathlib.Path) -> None:
  for file in folder.iterdir():
    with open(file, "rb") as out:
      os.fsync(out.fileno())


def _resident() -> int:
  """Bytes that the process holds now; from here on the peak is counted."""
  pathlib.Path("/proc/self/clear_refs").write_text("5")
  pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
  return pages * resource.getpagesize()


def _peak() -> int:
  lines = pathlib.Path("/proc/self/status").read_text().splitlines()
  return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) << 10


if __name__ == "__main__":
  place = pathlib.Path(sys.argv[1])
  place.mkdir(parents=True)
  try:
    main(place, *sys.argv[2:])
  finally:
    shutil.rmtree(place)
