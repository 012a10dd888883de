"""Records what T5's own span corruption does, for the tests to compare with.

Run it in this project's environment, with the packages t5 0.9.4 and babel unpacked somewhere, without what they require
(`pip install --no-deps --target FOLDER t5==0.9.4 babel`):

    PYTHONPATH=FOLDER python tests/golden/make_spans.py

It writes spans.npz beside itself. `counts` holds a row a length, of LENGTHS: the number of tokens that go and of spans.
Of every drawn text n there are `tokens_n`, `gone_n`, `inputs_n` and `targets_n`; the vocabulary has 1,000 ids.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

LENGTHS = range(2, 1025)
DRAWN = (2, 3, 7, 20, 64, 255, 512, 568)
DENSITY, MEAN_SPAN, VOCABULARY = 0.15, 3.0, 1000


class Vocabulary:
  vocab_size = VOCABULARY


def preprocessors() -> Any:
  """The module alone: its package imports much that span corruption does not need."""
  found = next(Path(folder) / "t5/data/preprocessors.py" for folder in sys.path if (Path(folder) / "t5").is_dir())
  spec = importlib.util.spec_from_file_location("t5_preprocessors", found)
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def main() -> None:
  t5 = preprocessors()
  gone_of = lambda length, seed: t5.random_spans_noise_mask(length, DENSITY, [[seed, 1], [seed, 2]], MEAN_SPAN).numpy()  # noqa: E731
  masks = [gone_of(length, 0) for length in LENGTHS]
  counts = [(int(mask.sum()), int((mask & ~np.roll(mask, 1)).sum())) for mask in masks]  # the first never goes
  found: dict[str, Any] = {"counts": np.array(counts, np.int32)}
  for n, length in enumerate(DRAWN):
    tokens, gone = np.random.default_rng(n).integers(2, 900, length).astype(np.int32), gone_of(length, n)
    left = t5.noise_span_to_unique_sentinel(tf.constant(tokens), tf.constant(gone), Vocabulary, None)
    taken = t5.nonnoise_span_to_unique_sentinel(tf.constant(tokens), tf.constant(gone), Vocabulary, None)
    found |= {f"tokens_{n}": tokens, f"gone_{n}": gone, f"inputs_{n}": left.numpy(), f"targets_{n}": taken.numpy()}
  np.savez_compressed(Path(__file__).with_name("spans.npz"), **found)


if __name__ == "__main__":
  main()
