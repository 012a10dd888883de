"""A data set of TensorFlow Datasets as JSON lines, in a process of its own: TensorFlow lives here.

Labels are written as their names, other numbers and truth values as the text that Python prints of them.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np

from fiat_jax import children


def write(name: str, split: str, place: str) -> None:
  """Writes every example of a split to the file `place`."""
  import tensorflow_datasets as tfds

  loaded: Any = tfds.load(name, split=split, with_info=True)
  dataset, info = loaded
  labels = {key: feature for key, feature in info.features.items() if isinstance(feature, tfds.features.ClassLabel)}
  with open(place, "w", encoding="utf-8") as file:
    for example in tfds.as_numpy(dataset):
      record = {key: labels[key].int2str(v) if key in labels else _plain(v) for key, v in example.items()}
      file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _plain(value: Any) -> Any:
  if isinstance(value, dict):
    return {name: _plain(item) for name, item in value.items()}
  if isinstance(value, np.ndarray):
    return [_plain(item) for item in value]
  return value.decode() if isinstance(value, bytes) else str(value)


def main() -> int:
  children.end_with_parent()
  try:
    write(**json.load(sys.stdin))
  except Exception as e:  # whatever its many builders raise; the parent says what to do
    reason = next((line for line in str(e).splitlines() if line.strip()), type(e).__name__)
    print(f"error: {reason[:200]}", file=sys.stderr)
    return 2
  return 0


if __name__ == "__main__":
  sys.exit(main())
