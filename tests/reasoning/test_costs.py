"""Costs per 1,000 inputs, from a store's records."""

import pytest

from fiat_jax.data.reasoned import row_key
from fiat_jax.reasoning.costs import per_1000
from fiat_jax.reasoning.records import Records


def write(store, *answers, **of_all):
  log = Records(store, "answers")
  common = {"kind": "answer", "beta": "openai:big", "endpoint": "https://x/v1"} | of_all
  with log.locked():
    log.append([{"kind": "session"}, *({**common, "row": row_key(x), "cost": cost} for x, cost in answers)])


def test_all_that_was_paid_about_an_input_counts(tmp_path):
  write(tmp_path, ("one", 0.01), ("one", 0.02), ("two", 0.03), ("elsewhere", 9.0))
  assert per_1000(tmp_path, ["one", "two", "one"]) == pytest.approx(1000 * 0.06 / 2)


def test_a_model_on_this_machine_costs_nothing(tmp_path):
  write(tmp_path, ("one", 0.0), beta="mistral_7b_instruct", endpoint="")
  assert per_1000(tmp_path, ["one"]) == 0.0


def test_what_cannot_be_told_is_not_told(tmp_path):
  write(tmp_path / "unpriced", ("one", 0.0))
  assert per_1000(tmp_path / "unpriced", ["one"]) is None
  write(tmp_path / "imported", ("one", 0.0), imported=True)
  assert per_1000(tmp_path / "imported", ["one"]) is None
  write(tmp_path / "lost", ("one", None))
  assert per_1000(tmp_path / "lost", ["one"]) is None
  write(tmp_path / "several", ("one", 0.1))
  assert per_1000(tmp_path / "several", ["one", "two"]) is None
  write(tmp_path / "several", ("one", 0.1), beta="openai:other")
  assert per_1000(tmp_path / "several", ["one"]) is None
