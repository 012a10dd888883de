"""Seconds of single answers."""

import tiny

from fiat_jax.decoding.engine import Engine
from fiat_jax.evaluation import latency


def test_each_of_the_first_prompts_is_timed_alone(tiny_model, tmp_path):
  engine = Engine(tiny_model.module, tiny_model.layers, stop_ids=[0], slots=4)
  shard = tiny.write_shard(tmp_path / "rows", tiny.random_examples([(5, 1)] * 30))
  found = latency.measured(engine, shard, target_length=4)
  assert found["rows"] == latency.MOST and 0 < found["p50"] <= found["p95"] < 5
  few = tiny.write_shard(tmp_path / "few", tiny.random_examples([(5, 1)] * 3))
  assert latency.measured(engine, few, target_length=4) == {}
