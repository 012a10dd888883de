"""Seconds of single answers."""

import pytest
import tiny

from fiat_jax import processes, signals
from fiat_jax.decoding.engine import Engine
from fiat_jax.evaluation import latency


def test_each_of_the_first_prompts_is_timed_alone(tiny_model, tmp_path):
  engine = Engine(tiny_model.module, tiny_model.layers, stop_ids=[0], slots=4)
  shard = tiny.write_shard(tmp_path / "rows", tiny.random_examples([(5, 1)] * 30))
  found = latency.measured(engine, shard, target_length=4)
  assert found["rows"] == latency.MOST and 0 < found["p50"] <= found["p95"] < 5
  few = tiny.write_shard(tmp_path / "few", tiny.random_examples([(5, 1)] * 3))
  assert latency.measured(engine, few, target_length=4) == {}


def test_of_several_processes_the_first_one_s_clock_says_how_many_and_any_one_s_signal_stops(
  tiny_model, tmp_path, monkeypatch
):
  """Else one would decode alone, and wait for the others for ever."""
  engine = Engine(tiny_model.module, tiny_model.layers, stop_ids=[0], slots=4)
  shard = tiny.write_shard(tmp_path / "rows", tiny.random_examples([(5, 1)] * 30))
  monkeypatch.setattr(latency, "ENOUGH", 0.0)
  assert latency.measured(engine, shard, target_length=2)["rows"] == latency.FEWEST
  monkeypatch.setattr(processes, "of_first", lambda value: False)  # whose clock says that there is time
  assert latency.measured(engine, shard, target_length=2)["rows"] == latency.MOST

  def elsewhere():
    raise signals.Stopped(15)

  monkeypatch.setattr(processes, "check_signals", elsewhere)
  with pytest.raises(signals.Stopped):
    latency.measured(engine, shard, target_length=2)
