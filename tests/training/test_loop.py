"""The loop on a tiny model: validation from step 0, the best of equals, a loss that is not finite."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.data.batches import Batches
from fiat_jax.data.packing import Shape
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

  def start(scores, rates=None, folder=tmp_path / "run", patience=0, batches=Batches):
    folder.mkdir(exist_ok=True)
    config = optimizers.OptimizerConfig(learning_rate=0.01)
    transform, of_steps = optimizers.optimizer(config), optimizers.learning_rates(config, STEPS)
    step = make_step(Decoder(tiny.CONFIG, LORA), transform, "lora", seed=3, rates=of_steps)
    seen = []

    def validate(tree):
      seen.append(jax.tree.map(np.asarray, tree))
      return {"f1_squad": scores[len(seen) - 1]}

    work = loop.Training(
      config=loop.LoopConfig(steps=STEPS, validate_every=2, metric="f1_squad", patience=patience),
      advance=rates(step) if rates else step,
      frozen={"params": tiny_model.params},
      batches=batches(shard, size=4, seed=3, shape=Shape(rows=2, length=32, targets=16)),
      validate=validate,
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


def test_the_next_batch_is_made_once_before_what_this_step_gives_is_waited_for(run):
  log = []

  class Logged(Batches):
    def __getitem__(self, i):
      log.append(f"made {i}")
      return super().__getitem__(i)

  class Loss:
    def __init__(self, step, value):
      self.step, self.value = step, value

    def __array__(self):
      log.append(f"read {self.step}")
      return np.asarray(self.value)

  def logged(step):
    def advance(state, frozen, batch):
      number = int(state.step)
      log.append(f"step {number}")
      state, metrics = step(state, frozen, batch)
      return state, metrics._replace(loss=Loss(number, metrics.loss))

    return advance

  run([1.0, 2.0, 3.0, 4.0], rates=logged, batches=Logged)
  middle = [word for n in range(STEPS - 1) for word in (f"step {n}", f"made {n + 1}", f"read {n}")]
  assert log == ["made 0", *middle, "step 5", "read 5"]


def test_a_batch_that_cannot_be_made_fails_when_it_is_due(run, tmp_path):
  class Unreadable(Batches):
    def __getitem__(self, i):
      if i == 3:
        raise OSError("no such disk")
      return super().__getitem__(i)

  with pytest.raises(OSError, match="no such disk"):
    run([1.0, 2.0], batches=Unreadable)
  assert [line["step"] for line in records(tmp_path / "run") if "loss" in line] == [1, 2, 3]


def test_the_first_of_equally_good_checkpoints_is_returned(run, tmp_path):
  (best, trained), seen = run([1.0, 7.0, 7.0, 2.0])
  assert best == 2 == best_step(tmp_path / "run", "f1_squad")
  jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.asarray, trained), seen[1])


@pytest.mark.parametrize("content", ["", "{", "{}", "[]", '{"best_step": null}'])
def test_damaged_results_are_named(tmp_path, content):
  (tmp_path / "results.json").write_text(content)
  with pytest.raises(UserError, match=r"results\.json: (cannot be read|names no best_step).* delete it"):
    best_step(tmp_path, "f1_squad")


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


@pytest.mark.parametrize(("patience", "last"), [(1, 2), (2, 4), (3, 6), (0, 6)])
def test_training_stops_after_so_many_validations_without_a_better_one(run, tmp_path, capsys, patience, last):
  (best, _), _ = run([5.0, 4.0, 5.0, 3.0], patience=patience)
  assert best == 0 and records(tmp_path / "run")[-1]["step"] == last
  assert ("training stops here (--patience)" in capsys.readouterr().err) == (last < 6)


def test_a_gain_starts_the_patience_anew(run, tmp_path):
  (best, _), _ = run([5.0, 4.0, 6.0, 3.0], patience=2)
  assert best == 4 and records(tmp_path / "run")[-1]["step"] == 6


def test_a_run_that_was_stopped_stops_early_where_the_other_does(run, tmp_path):
  def breaks(step):
    def advance(state, frozen, batch):
      if int(state.step) == 3:
        raise KeyboardInterrupt
      return step(state, frozen, batch)

    return advance

  scores = [5.0, 4.0, 3.0]
  run(scores, patience=2, folder=tmp_path / "undisturbed")
  with pytest.raises(KeyboardInterrupt):
    run(scores, rates=breaks, patience=2)
  (best, _), _ = run(scores[2:], patience=2)
  (again, _), seen = run([], patience=2)
  assert (best, again, seen) == (0, 0, [])
  for file in ("metrics.jsonl", "loss.svg"):
    assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "undisturbed" / file).read_bytes()


def test_a_loss_that_is_not_finite_comes_with_likely_causes(run):
  def poisoned(step):
    return lambda state, frozen, batch: step(state, jax.tree.map(lambda leaf: leaf * jnp.nan, frozen), batch)

  with pytest.raises(UserError) as fault:
    run([1.0], rates=poisoned)
  assert "likely causes: a learning rate too high (here 0.01), a row" in str(fault.value)
  assert "the longest is row-" in str(fault.value) and ", 9 tokens)" in str(fault.value)


def test_events_hold_what_was_written_and_a_later_attempt_begins_with_a_restart(tmp_path):
  from tensorboardX.proto.event_pb2 import Event

  for records in ([], [{"step": 1, "loss": 2.0}]):
    journal = Journal(tmp_path)
    journal.open(records)
    journal.write({"step": len(records) + 1, "loss": 3.0, "validation": {"f1": 4.0}})
    journal.close()
  events = []
  for path in sorted((tmp_path / "events").iterdir()):
    data, at = path.read_bytes(), 0
    while at < len(data):  # TFRecord: length, its checksum, the message, its checksum
      size = int.from_bytes(data[at : at + 8], "little")
      events.append(Event.FromString(data[at + 12 : at + 12 + size]))
      at += size + 16
  values = [(e.step, v.tag, v.simple_value) for e in events for v in e.summary.value]
  assert values == [(1, "loss", 3.0), (1, "validation/f1", 4.0), (2, "loss", 3.0), (2, "validation/f1", 4.0)]
  assert [e.step for e in events if e.HasField("session_log")] == [2]
