"""A checkpoint whose files are not what they were when it was saved is refused, and the one before is taken."""

import random
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fiat_jax.checkpoints import manifest
from fiat_jax.checkpoints.run import RunCheckpoints
from fiat_jax.errors import UserError
from fiat_jax.models.lora import LoraConfig, init_adapter
from fiat_jax.training.optimizers import OptimizerConfig, optimizer
from fiat_jax.training.step import init_state

FLIPS = 40


@pytest.fixture(scope="module")
def states(tiny_model):
  """What two steps left: the adapter random, so that nothing in it compresses to nothing."""
  fresh = init_adapter(jax.random.key(0), tiny_model.params, LoraConfig(rank=2))
  state = init_state(fresh, optimizer(OptimizerConfig()))

  def at(step: int):
    noise = lambda x: x + jax.random.normal(jax.random.key(step), x.shape)  # noqa: E731
    return state._replace(trained=jax.tree.map(noise, state.trained), step=jnp.int32(step))

  return {step: at(step) for step in (2, 4, 6)}


@pytest.fixture(scope="module")
def saved(states, tmp_path_factory):
  folder = tmp_path_factory.mktemp("saved") / "checkpoints"
  checkpoints = RunCheckpoints(folder)
  for step in (2, 4):
    checkpoints.save(step, states[step], [{"step": step, "loss": 1.5}])
  checkpoints.save_best(2, states[2].trained)
  checkpoints.close()
  return folder


def restored(folder, like):
  checkpoints = RunCheckpoints(folder)
  try:
    return checkpoints.restore(like)
  finally:
    checkpoints.close()


def flip(folder, seed: int) -> str:
  """Flips one bit of some file and says of which; every file is as likely as another."""
  chosen = random.Random(seed)
  path = chosen.choice(sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size))
  content = bytearray(path.read_bytes())
  content[chosen.randrange(len(content))] ^= 1 << chosen.randrange(8)
  path.write_bytes(content)
  return path.relative_to(folder).as_posix()


def test_what_is_as_it_was_saved_is_restored(saved, states, capsys):
  state, records = restored(saved, states[2])
  jax.tree.map(np.testing.assert_array_equal, state, states[4])
  assert records == [{"step": 4, "loss": 1.5}] and not capsys.readouterr().err


def test_forty_flipped_bits_are_forty_refusals_and_forty_times_the_one_before(saved, states, tmp_path, capsys):
  flipped = set()
  for seed in range(FLIPS):
    folder = tmp_path / str(seed)
    shutil.copytree(saved, folder)
    flipped.add(name := flip(folder / "latest" / "4", seed))
    state, records = restored(folder, states[4])
    jax.tree.map(np.testing.assert_array_equal, state, states[2])
    told = capsys.readouterr().err
    assert records == [{"step": 2, "loss": 1.5}], name
    assert "the checkpoint of step 4 is damaged and left out: " in told and "from the one before, of step 2" in told
  assert len(flipped) > 10


@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_bit_of_the_best_one_is_refused_with_the_file_named(saved, states, tmp_path, seed):
  shutil.copytree(saved, tmp_path / "run")
  flip(tmp_path / "run" / "best" / "2" / "trained", seed)
  checkpoints = RunCheckpoints(tmp_path / "run")
  with pytest.raises(UserError, match=r"best/2: the best checkpoint is damaged \(trained/.* is not as saved\): train"):
    checkpoints.restore_best(states[2].trained, 2)
  checkpoints.close()


@pytest.mark.parametrize("harm", ["cut", "gone", "added", "no list"])
def test_so_are_files_that_are_cut_missing_or_too_many(saved, states, tmp_path, harm, capsys):
  shutil.copytree(saved, tmp_path / "run")
  newest = tmp_path / "run" / "latest" / "4"
  path = max(newest.glob("state/**/d/*"), key=lambda file: file.stat().st_size)
  if harm == "cut":
    path.write_bytes(path.read_bytes()[:-1])
  elif harm == "gone":
    path.unlink()
  elif harm == "added":
    path.with_name("another").write_bytes(b"")
  else:
    (newest / manifest.ITEMS).unlink()
  state, _ = restored(tmp_path / "run", states[2])
  assert int(state.step) == 2 and "the checkpoint of step 4 is damaged" in capsys.readouterr().err


def test_where_all_are_damaged_the_run_begins_anew_and_keeps_what_it_saves(saved, states, tmp_path, capsys):
  shutil.copytree(saved, tmp_path / "run")
  for step in (2, 4):
    flip(tmp_path / "run" / "latest" / str(step), 1)
  flip(tmp_path / "run" / "best" / "2", 1)
  checkpoints = RunCheckpoints(tmp_path / "run")
  assert checkpoints.restore(states[2]) is None and "the run begins anew" in capsys.readouterr().err
  checkpoints.save_best(0, states[6].trained)
  checkpoints.save(0, states[6], [])
  checkpoints.wait()
  jax.tree.map(np.testing.assert_array_equal, checkpoints.restore_best(states[2].trained, 0), states[6].trained)
  found = checkpoints.restore(states[2])
  assert found and int(found[0].step) == 6
  checkpoints.close()


def test_after_a_damaged_one_the_next_is_kept_though_its_step_is_smaller(saved, states, tmp_path):
  shutil.copytree(saved, tmp_path / "run")
  flip(tmp_path / "run" / "latest" / "4", 0)
  checkpoints = RunCheckpoints(tmp_path / "run")
  assert checkpoints.restore(states[2])
  checkpoints.save(3, states[6], [])
  checkpoints.close()
  found = restored(tmp_path / "run", states[2])
  assert found and int(found[0].step) == 6


def test_what_is_kept_already_is_not_written_again(saved, states, tmp_path):
  """As after a signal that comes right behind a save: what is written twice can be lost between."""
  shutil.copytree(saved, tmp_path / "run")
  written = lambda: (tmp_path / "run" / "latest" / "4" / manifest.ITEMS).stat().st_mtime_ns  # noqa: E731
  before = written()
  checkpoints = RunCheckpoints(tmp_path / "run")
  checkpoints.save(4, states[4], [{"step": 4, "loss": 1.5}])
  checkpoints.close()
  assert written() == before


@pytest.mark.parametrize("killed", [False, True])
def test_one_that_is_replaced_stays_until_its_successor_is_whole(saved, states, tmp_path, killed, monkeypatch):
  """As where a validation that a signal broke off is made up for: the step is the same, the records are not."""
  folder = tmp_path / "run"
  shutil.copytree(saved, folder)
  checkpoints = RunCheckpoints(folder)
  with monkeypatch.context() as patch:
    if killed:
      patch.setattr(checkpoints._latest._manager, "save", lambda *_, **__: pytest.fail("killed"))
      with pytest.raises(pytest.fail.Exception):
        checkpoints.save(4, states[6], [])
    else:
      checkpoints.save(4, states[6], [])
      checkpoints.close()
  found = restored(folder, states[2])
  assert found and int(found[0].step) == (4 if killed else 6) and found[1] == [{"step": 4, "loss": 1.5}] * killed
  assert sorted(path.name for path in (folder / "latest").iterdir()) == ["2", "4"]


def test_one_whose_process_was_killed_before_it_was_sealed_is_judged_by_its_items(saved, states, tmp_path):
  shutil.copytree(saved, tmp_path / "run")
  (tmp_path / "run" / "latest" / "4" / manifest.SEAL).unlink()
  found = restored(tmp_path / "run", states[2])
  assert found and int(found[0].step) == 4
  assert (tmp_path / "run" / "latest" / "4" / manifest.SEAL).exists()


def test_the_lists_are_what_sha256sum_checks(saved):
  for name in (manifest.ITEMS, manifest.SEAL):
    subprocess.run(["sha256sum", "--check", "--strict", name], cwd=saved / "latest" / "4", check=True)
