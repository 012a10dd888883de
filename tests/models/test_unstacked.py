"""Weights taken apart for decoding: the same values, and no more than a leaf of them in memory twice."""

from __future__ import annotations

import jax
import numpy as np
import t5 as small

from fiat_jax.models import pretrained
from fiat_jax.models.lora import LoraConfig


class Seen(dict):
  """A dictionary that notes the bytes of all arrays whenever a leaf is taken out of it."""

  most = 0

  def pop(self, *words):
    Seen.most = max(Seen.most, live())
    return super().pop(*words)


jax.tree_util.register_pytree_node(
  Seen, lambda tree: (tuple(tree.values()), tuple(tree)), lambda names, leaves: Seen(zip(names, leaves, strict=True))
)


def live() -> int:
  return sum(array.nbytes for array in jax.live_arrays())


def seen(tree):
  return Seen({name: seen(node) for name, node in tree.items()}) if isinstance(tree, dict) else tree


def test_what_is_consumed_stands_in_memory_once_and_is_the_same(tmp_path):
  folder = small.write_model(tmp_path, num_layers=12)
  described = pretrained.describe(folder, dtype="float32", lora=LoraConfig())
  wanted = jax.tree.map(np.asarray, described.family.unstack(pretrained.load(described)))
  before = live()
  params = pretrained.load(described)
  size, largest = live() - before, max(leaf.nbytes for leaf in jax.tree.leaves(params))
  params = seen(params)
  found = described.family.unstack(params, consumes=True)
  assert Seen.most - before <= size + 2 * largest
  assert live() - before <= size
  for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_array_equal(one, other)
