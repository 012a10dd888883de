"""The loop on a tiny model: validation from step 0, the best of equals, a loss that is not finite."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.data.batches import Batches, Shape
from fiat_jax.errors import UserError
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.lora import LoraConfig, init_adapter
from fiat_jax.training import loop, optimizers
from fiat_jax.training.journal import Journal, best_step
from fiat_jax.training.step import init_state, make_step

LORA = LoraConfig(rank=2, dropout=0.3)
STEPS = 6


@pytest.fixture
def run(tmp_path, tiny_model):
  """Runs the loop in a folder with validation scores taken from a list, in order."""
  shard = tiny.write_shard(tmp_path / "shard", tiny.random_examples([(6, 3)] * 12))

  def start(scores, rates=None, folder=tmp_path / "run"):
    folder.mkdir(exist_ok=True)
    config = optimizers.OptimizerConfig(learning_rate=0.01)
    transform = optimizers.optimizer(config, STEPS)
    step = make_step(Decoder(tiny.CONFIG, LORA), transform, "lora", seed=3)
    seen = []

    def validate(tree):
      seen.append(jax.tree.map(np.asarray, tree))
      return {"f1_squad": scores[len(seen) - 1]}

    work = loop.Training(
      config=loop.LoopConfig(steps=STEPS, validate_every=2, metric="f1_squad"),
      advance=rates(step) if rates else step,
      frozen={"params": tiny_model.params},
      batches=Batches(shard, size=4, seed=3, shape=Shape(rows=2, length=32, targets=16)),
      validate=validate,
      rates=optimizers.learning_rate(config, STEPS),
      names=lambda number: f"row-{number}",
      keeps_state=True,
    )
    fresh = init_adapter(jax.random.key(3), tiny_model.params, LORA)
    checkpoints, journal = RunCheckpoints(folder / "checkpoints"), Journal(folder)
    try:
      return loop.train(work, init_state(fresh, transform), checkpoints, journal), seen
    finally:
      checkpoints.close()
      journal.close()

  return start


def records(folder):
  return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_step_0_is_validated_before_any_update_shows(run, tmp_path):
  _, seen = run([1.0, 2.0, 3.0, 4.0])
  assert all(np.all(leaf == 0) for path, leaf in jax.tree_util.tree_leaves_with_path(seen[0]) if path[-1].key == "b")
  lines = records(tmp_path / "run")
  assert [(line["step"], "validation" in line) for line in lines] == [
    (0, False), (0, True), (1, False), (2, False), (2, True), (3, False), (4, False), (4, True), (5, False),
    (6, False), (6, True)
  ]  # fmt: skip


def test_the_first_of_equally_good_checkpoints_is_returned(run, tmp_path):
  (best, trained), seen = run([1.0, 7.0, 7.0, 2.0])
  assert best == 2 == best_step(tmp_path / "run", "f1_squad")
  jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, trained), seen[1])


def test_a_loss_that_is_not_finite_names_step_and_rows_and_keeps_the_last_finite_checkpoint(run, tmp_path):
  def poisoned(step):
    def advance(state, frozen, batch):
      if int(state.step) == 3:
        state = state._replace(trained=jax.tree.map(lambda leaf: leaf * jnp.nan, state.trained))
      return step(state, frozen, batch)

    return advance

  with pytest.raises(UserError, match=r"step 4: the loss is nan .* on the rows row-\d+"):
    run([1.0, 2.0, 3.0, 4.0], rates=poisoned)
  assert [line["step"] for line in records(tmp_path / "run") if "loss" in line] == [1, 2, 3]
  (best, trained), _ = run([3.0, 4.0])
  assert best == 6
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(trained))


def test_a_finished_run_started_again_does_nothing_more(run, tmp_path):
  (best, trained), _ = run([1.0, 2.0, 3.0, 4.0])
  before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
  (again, same), seen = run([])
  assert (again, seen) == (best, []) and (tmp_path / "run" / "metrics.jsonl").read_bytes() == before
  jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, trained), jax.tree.map(np.asarray, same))
