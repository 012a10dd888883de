"""What model a T5X folder holds, which says so nowhere: read off its leaves' shapes, as most of them agree.

The leaves are then compared with that model's, or with those of a published one. Layers are shown one by one.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping
from typing import Any

from fiat_jax.errors import UserError
from fiat_jax.models.t5 import T5Config
from fiat_jax.models.t5_registry import t5_config, t5_shapes, t5x_leaves

Shapes = Mapping[str, tuple[int, ...]]

EMBEDDING, HEAD = "token_embedder/embedding", "decoder/logits_dense/kernel"
AXES = {  # the sizes of every leaf of a layer, by the end of its name
  ("query/kernel", "key/kernel", "value/kernel"): ("d_model", "inner"),
  ("out/kernel",): ("inner", "d_model"),
  ("wi/kernel", "wi_0/kernel", "wi_1/kernel"): ("d_model", "d_ff"),
  ("wo/kernel",): ("d_ff", "d_model"),
  ("scale",): ("d_model",),
}
SHOWN = 3  # leaves that a message names


def described(shapes: Shapes, path: str) -> dict[str, Any]:
  """The keys of a Hugging Face `config.json`; every leaf is there and has the shape that they ask for.

  A gated T5 has a head of its own (1.1), one that is tied is not gated (1.0): no head and a gate is a lost head.

  Raises:
    UserError: it is no T5, or leaves are missing, of another shape or too many.
  """
  layers = {stack: _layers(shapes, stack) for stack in ("encoder", "decoder")}
  sizes = _sizes(shapes)
  vocabulary = _vocabulary(shapes, sizes.get("d_model", 0))
  if not vocabulary and all(layers.values()) and EMBEDDING not in shapes:
    raise UserError(f"{EMBEDDING} is missing: [vocabulary, {sizes.get('d_model', 'width')}] is expected", path)
  needed = {
    EMBEDDING: vocabulary,
    "encoder/layers_0/attention/query/kernel": layers["encoder"] and "inner" in sizes and "d_model" in sizes,
    "encoder/layers_0/mlp/wo/kernel": "d_ff" in sizes,
    "decoder/layers_0/self_attention/query/kernel": layers["decoder"],
  }
  if lost := next((name for name, known in needed.items() if not known), None):
    found = f"is {list(shapes[lost])}" if lost in shapes else "is missing"
    some = ", ".join(sorted(shapes)[:3]) or "none"
    raise UserError(f"is no T5: {lost} {found}; it holds {len(shapes)} leaves, such as {some}", path)
  gates = sum(2 * ("/wi_" in name) - 1 for name in shapes if re.search(r"/mlp/wi(_[01])?/kernel$", name))
  gated = gates > 0 or (gates == 0 and HEAD in shapes)
  heads, buckets = _heads(shapes, sizes["inner"])
  config = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "is_encoder_decoder": True,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "vocab_size": vocabulary,
    "d_model": sizes["d_model"],
    "num_heads": heads,
    "d_kv": sizes["inner"] // heads,
    "d_ff": sizes["d_ff"],
    "num_layers": layers["encoder"],
    "num_decoder_layers": layers["decoder"],
    "relative_attention_num_buckets": buckets,
    "feed_forward_proj": "gated-gelu" if gated else "relu",
    "tie_word_embeddings": HEAD not in shapes and not gated,
  }
  wanted = t5_config(config, path, "float32")
  check(shapes, wanted, path, f"is taken for {in_words(wanted)}")
  return config


def check(shapes: Shapes, config: T5Config, path: str, claim: str) -> None:
  """Compares a folder's leaves with a model's.

  Args:
    claim: what says that it is this model, for the message.

  Raises:
    UserError: how many leaves are missing, of another shape or too many, the first of them, and what was expected.
  """
  wanted = expected(config)
  missing = [name for name in wanted if name not in shapes]
  wrong = [name for name in wanted if name in shapes and tuple(shapes[name]) != wanted[name]]
  extra = sorted(shapes.keys() - wanted.keys())
  if not missing and not wrong and not extra:
    return
  faults = _missing(missing, wanted)
  faults += [f"{name} is {list(shapes[name])}, not {list(wanted[name])}" for name in wrong]
  faults += [f"{name} has no place in it" for name in extra]
  counts = f"of its {len(wanted)} leaves {len(missing)} missing, {len(wrong)} of another shape, {len(extra)} too many"
  more = f" and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
  raise UserError(f"{claim}; {counts}: {'; '.join(faults[:SHOWN])}{more}", path)


def expected(config: T5Config) -> dict[str, tuple[int, ...]]:
  """The name and shape of every leaf of a model, layers one by one."""
  found: dict[str, tuple[int, ...]] = {}
  tree = t5_shapes(config)
  for leaf in t5x_leaves(config):
    node: Any = tree
    for part in leaf.path:
      node = node[part]
    if leaf.stacked:
      found |= {leaf.source.format(number): tuple(node.shape[1:]) for number in range(node.shape[0])}
    else:
      found[leaf.source] = tuple(node.shape)
  return found


def in_words(config: T5Config) -> str:
  """A model's shape, in one line."""
  c = config
  kind, head = "gated" if c.gated else "ungated", "tied" if c.tied_head else "untied"
  layers = f"{c.encoder_layers} encoder and {c.decoder_layers} decoder layers, width {c.width}, FFN {c.ffn_width}"
  return f"a T5, {kind} and {head}, of {layers}, {c.heads} heads of {c.head_dim}, vocabulary {c.vocab_size}"


def _missing(names: list[str], wanted: Shapes) -> list[str]:
  """What is missing in words; of a layer that is missing whole, once."""
  layer_of = lambda name: found[0] if (found := re.match(r"\w+/layers_\d+(?=/)", name)) else name  # noqa: E731
  whole = collections.Counter(map(layer_of, wanted))
  lost: dict[str, list[str]] = {}
  for name in names:
    lost.setdefault(layer_of(name), []).append(name)
  faults = []
  for layer, some in lost.items():
    if 1 < len(some) == whole[layer]:
      faults.append(f"{layer} is missing with all its {len(some)} leaves")
    else:
      faults += [f"{name} is missing, {list(wanted[name])} expected" for name in some]
  return faults


def _layers(shapes: Shapes, stack: str) -> int:
  """How many a stack has by its highest number; one that is not there is missing."""
  return 1 + max((int(found[1]) for name in shapes if (found := re.match(rf"{stack}/layers_(\d+)/", name))), default=-1)


def _sizes(shapes: Shapes) -> dict[str, int]:
  """The size of each axis on which most leaves agree."""
  votes: dict[str, collections.Counter[int]] = {}
  for name, shape in sorted(shapes.items()):
    axes = next((axes for ends, axes in AXES.items() if name.endswith(ends)), ())
    if len(axes) == len(shape):
      for axis, size in zip(axes, shape, strict=True):
        votes.setdefault(axis, collections.Counter())[size] += 1
  return {axis: counted.most_common(1)[0][0] for axis, counted in votes.items()}


def _vocabulary(shapes: Shapes, width: int) -> int:
  """The embedding's rows, or else the head's columns; of either transposed, the axis that is not the width."""
  embedding, head = shapes.get(EMBEDDING, ()), shapes.get(HEAD, ())
  for rows_first in (embedding, head[::-1], embedding[::-1], head):
    if len(rows_first) == 2 and rows_first[1] == width:
      return rows_first[0]
  return 0


def _heads(shapes: Shapes, inner: int) -> tuple[int, int]:
  """Heads and buckets, from the relative biases; where they disagree, 32 buckets and heads of 64, as T5's are."""
  biases = [shapes.get(f"{stack}/relpos_bias/rel_embedding", ()) for stack in ("encoder", "decoder")]
  pairs = [(shape[0], shape[1]) for shape in biases if len(shape) == 2 and shape[0] and inner % shape[0] == 0]
  return max(pairs, key=lambda pair: (pair[1] == 32, 64 * pair[0] == inner), default=(max(1, inner // 64), 32))
