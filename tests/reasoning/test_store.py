"""The store's files under what may happen to them, exemplars, answers and votes."""

from __future__ import annotations

import pathlib

import pytest

from fiat_jax.configuration import configure
from fiat_jax.errors import UserError
from fiat_jax.reasoning import dialect, view
from fiat_jax.reasoning import records as records_module
from fiat_jax.reasoning.answers import AnswerRule, same, vote
from fiat_jax.reasoning.ledger import Ledger
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.reasoning.records import Records


def append(log: Records, *numbers: int) -> None:
  with log.locked():
    log.append({"n": n} for n in numbers)


def numbers(log: Records) -> list[int]:
  return [record["n"] for record in log.fresh()]


def test_a_torn_last_line_is_not_seen_and_goes_with_the_next_record(tmp_path: pathlib.Path):
  append(Records(tmp_path, "a"), 1, 2)
  with open(tmp_path / "a-00000.jsonl", "ab") as file:
    file.write(b'{"n": 3')
  reader = Records(tmp_path, "a")
  assert numbers(reader) == [1, 2]
  append(Records(tmp_path, "a"), 4)
  assert numbers(reader) == [4] and numbers(Records(tmp_path, "a")) == [1, 2, 4]


def test_a_damaged_line_is_told_with_its_place(tmp_path: pathlib.Path):
  (tmp_path / "a-00000.jsonl").write_text('{"n": 1}\nnonsense\n{"n": 2}\n')
  with pytest.raises(UserError, match=r"a-00000.jsonl:2: is no record"):
    numbers(Records(tmp_path, "a"))


def test_a_new_shard_begins_where_one_has_grown(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
  monkeypatch.setattr(records_module, "SHARD_BYTES", 20)
  reader = Records(tmp_path, "a")
  for n in range(9):
    append(Records(tmp_path, "a"), n)
  assert numbers(reader) == list(range(9)) and len(list(tmp_path.glob("a-*.jsonl"))) > 2


def test_two_ledgers_share_a_cap_and_what_a_dead_one_reserved_counts(tmp_path: pathlib.Path):
  one, two = Ledger(tmp_path, "one", 10.0), Ledger(tmp_path, "two", 10.0)
  first = one.reserve([("k1", 2.0)])
  assert two.reserve([("k1", 2.0)]).elsewhere == {"k1"} and two.reserve([("k2", 4.0)]).capped
  one.close_all(settled={first.ids["k1"]: 1.0})
  one.reserve([("k3", 2.0)])
  one.close()
  two.refresh()
  assert (two.settled, two.spent) == (1.0, 5.0)
  assert two.reserve([("k3", 2.0)]).ids  # its claim died with it, its money did not
  two.close()


def test_a_reservation_is_settled_once_whoever_does_it(tmp_path: pathlib.Path):
  dead, one, two = (Ledger(tmp_path, name, 10.0) for name in ("dead", "one", "two"))
  (id,) = dead.reserve([("k", 2.0)]).ids.values()
  dead.close()
  for ledger in (one, two):
    ledger.close_all(settled={id: 1.5})
  one.reconcile({id: 1.5})
  one.close_all(lost=[id])
  assert (one.spent, two.spent) == (1.5, 1.5)
  two.close()
  one.close()


def test_answers_are_read_by_each_kind_of_rule():
  text = "First.\nThe answer is 4.\nSo: (b) 1,000"
  assert AnswerRule.parse("last_line").read(text) == "So: (b) 1,000"
  assert AnswerRule.parse("after:So:").read(text) == "(b) 1,000"
  assert same("42", "42.0") and same("The Nile.", "nile") and not same("41", "42.0")


def test_the_majority_wins_and_its_first_reasoning_is_kept():
  assert vote(["4", "5", None, "The 5.", "4.0", "5"]) == (1, 3)
  assert vote([None]) is None


def test_the_prompt_holds_x_once():
  prompt = ReasoningPrompt.parse("Think.\n\n{x}\n\nReasoning:")
  assert prompt.render("2 + 2") == "Think.\n\n2 + 2\n\nReasoning:"
  with pytest.raises(UserError, match="hold"):
    ReasoningPrompt.parse("Think.")


def test_views_of_a_model_in_other_bits_are_others():
  of = lambda **flags: view.place(configure([], [], {"BETA": "M", "STORE": "S", **flags}).settings)  # noqa: E731
  assert len({of(), of(BETA_WEIGHTS="int8"), of(BETA_WEIGHTS="nf4")}) == 3


@pytest.mark.parametrize(
  ("usage", "tokens"),
  [
    ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}, (5, 7)),
    ({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 30}, (5, 25)),
    ({"prompt_tokens": 5}, (5, 0)),
    ({"prompt_tokens": 5, "completion_tokens": "12"}, None),
    ({"prompt_tokens": -5, "completion_tokens": 2}, None),
    ("many", None),
  ],
)
def test_what_an_endpoint_reports_of_tokens_is_counted_where_it_can_be(usage, tokens):
  body = {"choices": [{"message": {"content": "x"}}], "usage": usage}
  assert dialect.read(body, chat=True).tokens == tokens
