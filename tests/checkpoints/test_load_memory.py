"""Loading a large model holds it once. The checkpoint has Flan-T5 xl's shapes and is a sparse file of zeros."""

import json
import pathlib
import struct
import subprocess
import sys

import pytest

CONFIG = {
  "model_type": "t5",
  "d_model": 2048,
  "d_kv": 64,
  "d_ff": 5120,
  "num_layers": 24,
  "num_decoder_layers": 24,
  "num_heads": 32,
  "vocab_size": 32128,
  "feed_forward_proj": "gated-gelu",
  "tie_word_embeddings": False,
  "relative_attention_num_buckets": 32,
}
PROGRAM = """
import json, resource, sys
import jax
from fiat_jax.checkpoints.load import load_params
from fiat_jax.checkpoints.source import open_checkpoint
from fiat_jax.models.t5_registry import t5_config, t5_leaves, t5_shapes

source = open_checkpoint(sys.argv[1])
config = t5_config(source.config, sys.argv[1], "bfloat16")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
jax.block_until_ready(jax.numpy.zeros(1))
before = peak()
params = jax.block_until_ready(load_params(source, t5_leaves(config), t5_shapes(config), "bfloat16"))
print(json.dumps([peak() - before, sum(leaf.nbytes for leaf in jax.tree.leaves(params))]))
"""


def write_zeros(folder: pathlib.Path) -> None:
  """Configuration and bf16 weights in Hugging Face's layout; zeros take no place on the disk."""
  from fiat_jax.models.t5_registry import t5_config, t5_leaves, t5_shapes

  config = t5_config(CONFIG, str(folder), "bfloat16")
  header, end = {}, 0
  for leaf in t5_leaves(config):
    node = t5_shapes(config)
    for part in leaf.path:
      node = node[part]
    count, shape = (node.shape[0], node.shape[1:]) if leaf.stacked else (1, node.shape)
    for number in range(count):
      begin, end = end, end + 2 * node.size // count
      stored = list(shape[::-1] if leaf.transposed else shape)
      header[leaf.source.format(number)] = {"dtype": "BF16", "shape": stored, "data_offsets": [begin, end]}
  text = json.dumps(header).encode()
  (folder / "config.json").write_text(json.dumps(CONFIG))
  with open(folder / "model.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text)
    file.truncate(8 + len(text) + end)


@pytest.mark.slow
def test_flan_t5_xl_takes_at_most_a_fifth_more_than_its_weights(tmp_path):
  write_zeros(tmp_path)
  command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
  taken, weights = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
  assert weights == pytest.approx(2 * 2.85e9, rel=0.01)
  assert taken <= 1.2 * weights
