"""A run that breaks off anywhere and is started again writes what the run that never stopped wrote, bit for bit."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from fiat_jax import signals
from fiat_jax.checkpoints.peft import write_adapter
from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.data.batches import Batches
from fiat_jax.data.packing import Shape
from fiat_jax.errors import UserError
from fiat_jax.models.decoder import Decoder
from fiat_jax.models.decoder_only import DecoderOnly
from fiat_jax.models.lora import LoraConfig, init_adapter
from fiat_jax.training import loop, optimizers
from fiat_jax.training.journal import Journal
from fiat_jax.training.step import init_state, make_step

LORA = LoraConfig(rank=2, dropout=0.3)
OPTIMIZER = optimizers.OptimizerConfig(learning_rate=0.02)
SHAPE = Shape(rows=2, length=32, targets=16)
ROWS, SIZE, STEPS, EVERY = 12, 4, 6, 2  # two epochs
POISON = 96  # the token whose embedding is infinite where a test wants a loss that is not finite


class Broken(Exception):
  """What a test breaks a run off with."""


class FailsToSave(RunCheckpoints):
  """Breaks off after the best checkpoint is kept and before the latest one is."""

  at = -1

  def save(self, step, state, records):
    if step == self.at:
      raise Broken
    super().save(step, state, records)


@pytest.fixture(scope="module")
def jitted():
  """One compiled step for all runs."""
  rates = optimizers.learning_rates(OPTIMIZER, STEPS)
  return make_step(Decoder(tiny.CONFIG, LORA), optimizers.optimizer(OPTIMIZER), "lora", seed=3, rates=rates)


@pytest.fixture(scope="module")
def start(tmp_path_factory, tiny_model, jitted):
  """Starts a run in a folder, or goes on there; `break_at` is where it breaks off: (what, step)."""
  ids = tiny.random_examples([(6, 3), (9, 1), (4, 5)] * (ROWS // 3))
  ids = [e._replace(inputs=np.minimum(e.inputs, POISON - 1), targets=np.minimum(e.targets, POISON - 1)) for e in ids]
  ids[5].inputs[2] = POISON
  batches = Batches(tiny.write_shard(tmp_path_factory.mktemp("shard"), ids), size=SIZE, seed=3, shape=SHAPE)
  probe = tiny.rows_of([e.inputs.tolist() + e.targets.tolist() for e in ids], 16)

  def begin(folder, break_at=("", -1), params=tiny_model.params):
    what, at = break_at

    def advance(state, frozen, batch):
      if (what, at) == ("step", int(state.step)):
        raise Broken
      if (what, at) == ("signal", int(state.step)):
        signals._received.append(signal.SIGTERM)
      return jitted(state, frozen, batch)

    validated = []

    def validate(tree):
      step = len(validated) * EVERY if not going_on else None
      if what == "validation" and step == at:
        raise Broken
      validated.append(step)
      variables = {"params": tiny_model.params, "lora": tree}
      logits = tiny.forward(Decoder(tiny.CONFIG, LORA), variables, *probe)
      return {"f1_squad": float(jnp.mean(jax.nn.log_softmax(logits)[..., 5]))}

    going_on = folder.exists()
    folder.mkdir(exist_ok=True)
    work = loop.Training(
      config=loop.LoopConfig(steps=STEPS, validate_every=EVERY, metric="f1_squad"),
      advance=advance,
      frozen={"params": params},
      batches=batches,
      validate=validate,
      names=lambda number: f"row-{number}",
      keeps_state=True,
    )
    fresh = init_adapter(jax.random.key(3), tiny_model.params, LORA)
    checkpoints, journal = FailsToSave(folder / "checkpoints"), Journal(folder)
    checkpoints.at = at if what == "save" else -1
    try:
      best, trained = loop.train(work, init_state(fresh, optimizers.optimizer(OPTIMIZER)), checkpoints, journal)
    finally:
      checkpoints.close()
      journal.close()
    write_adapter(folder / "adapter", trained, DecoderOnly(tiny.CONFIG), LORA, base="tiny")
    return best, jax.tree.map(np.asarray, trained)

  return begin


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, start):
  folder = tmp_path_factory.mktemp("undisturbed") / "run"
  return folder, start(folder)


def check(folder, result, undisturbed):
  other, expected = undisturbed
  assert result[0] == expected[0]
  jax.tree.map(np.testing.assert_array_equal, result[1], expected[1])
  for name in ("metrics.jsonl", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
    assert (folder / name).read_bytes() == (other / name).read_bytes(), name
  assert sorted(p.name for p in (folder / "checkpoints" / "best").iterdir()) == sorted(
    p.name for p in (other / "checkpoints" / "best").iterdir()
  )


@pytest.mark.parametrize("step", range(STEPS))
def test_broken_off_in_a_step(tmp_path, start, undisturbed, step):
  with pytest.raises(Broken):
    start(tmp_path / "run", ("step", step))
  check(tmp_path / "run", start(tmp_path / "run"), undisturbed)


@pytest.mark.parametrize("where", ["validation", "save"])
@pytest.mark.parametrize("step", [0, 2, STEPS])
def test_broken_off_around_a_validation(tmp_path, start, undisturbed, where, step):
  with pytest.raises(Broken):
    start(tmp_path / "run", (where, step))
  check(tmp_path / "run", start(tmp_path / "run"), undisturbed)


def test_broken_off_twice(tmp_path, start, undisturbed):
  for step in (3, 5):
    with pytest.raises(Broken):
      start(tmp_path / "run", ("step", step))
  check(tmp_path / "run", start(tmp_path / "run"), undisturbed)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_broken_off_and_its_newest_checkpoint_damaged(tmp_path, start, undisturbed, step, capsys):
  """After the first validation there is none before the damaged one: the run begins anew."""
  with pytest.raises(Broken):
    start(tmp_path / "run", ("step", step))
  newest = tmp_path / "run" / "checkpoints" / "latest" / str(step - 1)
  damaged = max(newest.glob("state/**/d/*"), key=lambda path: path.stat().st_size)
  damaged.write_bytes(damaged.read_bytes()[::-1])
  check(tmp_path / "run", start(tmp_path / "run"), undisturbed)
  assert f"the checkpoint of step {step - 1} is damaged and left out" in capsys.readouterr().err


@pytest.mark.parametrize("step", [0, 2, 3])
def test_a_signal_stops_after_the_step_it_came_in_and_loses_none(tmp_path, start, undisturbed, step, monkeypatch):
  monkeypatch.setattr(signals, "_received", [])
  with pytest.raises(signals.Stopped) as stopped:
    start(tmp_path / "run", ("signal", step))
  assert stopped.value.code == 128 + signal.SIGTERM
  monkeypatch.setattr(signals, "_received", [])
  check(tmp_path / "run", start(tmp_path / "run"), undisturbed)


def test_a_row_with_an_infinite_loss_is_named_and_the_run_goes_on_from_before_it(
  tmp_path, start, undisturbed, tiny_model
):
  embedding = tiny_model.params["embedding"].at[POISON].set(jnp.inf)
  with pytest.raises(UserError, match=r"step \d: the loss is nan") as fault:
    start(tmp_path / "run", params={**tiny_model.params, "embedding": embedding})
  named = str(fault.value).partition("on the rows ")[2].partition(";")[0].split(", ")
  assert "row-5" in named and len(named) == SIZE
  check(tmp_path / "run", start(tmp_path / "run"), undisturbed)
