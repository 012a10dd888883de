"""SeqIO tasks over FLAN-MINI's collections, of rows that `fiat prepare flan_mini` has made, and their mixture.

`flan_mini` mixes `flan_mini_COLLECTION` over bytes, `flan_mini_t5` the same over T5's SentencePiece file, weighted by
the collections' published sizes.
"""

from __future__ import annotations

import seqio

from fiat_jax import prompts
from fiat_jax.data.features import rows_task
from fiat_jax.data.rows import Layout
from fiat_jax.data.shipped_tasks import T5_VOCABULARY
from fiat_jax.preparation.converters.flan_mini import SIZES


def register(prefix: str, vocabulary: seqio.Vocabulary) -> seqio.Mixture:
  """Registers a task for each collection and the mixture `prefix`."""
  plain = prompts.parse("{x}")
  weights = []
  for name, size in SIZES.items():
    files = {"train": f"prepared:flan_mini/{name}:train"}
    rows_task(f"{prefix}_{name}", files, Layout(), plain, inputs=vocabulary, targets=vocabulary)
    weights.append((f"{prefix}_{name}", float(size)))
  return seqio.MixtureRegistry.add(prefix, weights)


MIXTURES = [
  register("flan_mini", seqio.ByteVocabulary(extra_ids=125)),
  register("flan_mini_t5", seqio.SentencePieceVocabulary(T5_VOCABULARY, extra_ids=100)),
]
