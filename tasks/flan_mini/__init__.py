"""SeqIO tasks over FLAN-MINI's collections, of rows that `fiat prepare flan_mini` has made, and their mixture.

`flan_mini` mixes `flan_mini_COLLECTION` over bytes, `flan_mini_t5` the same over T5's SentencePiece file, weighted by
the collections' published sizes. The release's rows have FLAN's templates already; half of the weight of a
collection is that of `flan_mini_COLLECTION_shots`, which shows other rows of it as exemplars.
"""

from __future__ import annotations

import seqio

from fiat_jax import prompts
from fiat_jax.data.features import rows_task
from fiat_jax.data.rows import Layout
from fiat_jax.data.task_vocabularies import BYTES, T5
from fiat_jax.preparation.converters.flan_mini import SIZES

SHOTS = 2


def register(prefix: str, vocabulary: seqio.Vocabulary) -> seqio.Mixture:
  """Registers two tasks for each collection, without and with exemplars, and the mixture `prefix`."""
  plain = prompts.parse("{x}")
  weights = []
  for name, size in SIZES.items():
    files = {"train": f"prepared:flan_mini/{name}:train"}
    for task, shots in ((f"{prefix}_{name}", 0), (f"{prefix}_{name}_shots", SHOTS)):
      rows_task(task, files, Layout(), plain, inputs=vocabulary, targets=vocabulary, shots=shots)
      weights.append((task, size / 2))
  return seqio.MixtureRegistry.add(prefix, weights)


MIXTURES = [
  register("flan_mini", BYTES),
  register("flan_mini_t5", T5),
]
