"""Reasoning dropout from the command line: both forms are tokenised, and training reads a mixture of them."""

import json

import pytest

from fiat_jax.configuration import configure
from fiat_jax.workbench import Workbench
from fiat_jax.workbench.batches import make_batches

pytestmark = pytest.mark.compiled_quickly


@pytest.fixture
def bench(tmp_path, tiny_checkpoint):
  rows = [{"id": str(n), "input": f"{n}?", "target": "x", "reasoning": "Count on from one. " * 3} for n in range(30)]
  path = tmp_path / "train.jsonl"
  path.write_text("\n".join(map(json.dumps, rows)))

  def make(share):
    words = {"TRAIN": str(path), "MODEL": str(tiny_checkpoint), "REASONING_DROPOUT": share, "TARGET_LENGTH": "4"}
    made = Workbench(configure([], [], words))
    made.prepare([made.configuration.recipe("fiat")])
    made.check()
    return made

  return make


@pytest.mark.slow
@pytest.mark.parametrize("share", ["0", "0.5"])
def test_a_share_of_the_rows_comes_without_reasoning(bench, share):
  made = bench(share)
  recipe = made.configuration.recipe("fiat")
  batch = make_batches(made, recipe, 30, seed=0, held=0)[0]
  read = int((batch.segments > 0).sum())
  whole = int(sum(made.shards.of("train", recipe)[n].length for n in range(30)))
  assert read == whole if share == "0" else 0.4 * whole < read < 0.9 * whole
