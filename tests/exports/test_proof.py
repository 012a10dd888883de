"""What stands in `parity.jsonl`."""

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np

from fiat_jax.data.packing import Example
from fiat_jax.decoding.request import Completion
from fiat_jax.exports import proof


def test_figures_are_computed_in_the_whole_of_f32():
  """By default a TPU multiplies f32 in passes of bf16, and a GPU in TF32: another program would not agree."""
  heard = []

  def generate(requests: Any) -> list[Completion]:
    heard.append(jax.config.jax_default_matmul_precision)  # pyright: ignore[reportAttributeAccessIssue]
    return [Completion(tokens=[5], logprobs=[-0.5]) for _ in requests]

  tokenizer, family = SimpleNamespace(decode=str), SimpleNamespace(task="CAUSAL_LM")
  bench: Any = SimpleNamespace(
    settings=SimpleNamespace(target_length=4, reasoning="", dtype="float32"),
    rows={"test": [SimpleNamespace(id="a", fields={"input": "x"})]},
    shards=SimpleNamespace(of=lambda *_: [Example(np.arange(3), np.arange(1), 0)], read=lambda *_: ["x"]),
    templates=SimpleNamespace(prompt=lambda *_: "x"),
    models=SimpleNamespace(
      of=lambda *_: SimpleNamespace(tokenizer=tokenizer, family=family),
      engine=lambda *_: SimpleNamespace(generate=generate),
    ),
  )
  recipe: Any = SimpleNamespace(reasoning="")
  (row,) = proof.parity(bench, recipe, None, "test")
  assert heard == ["highest"] and row["tokens"] == [5]
