"""What a comparison may take: the order of its runs, what a budget allows, and what it stops at."""

import dataclasses
import math

import pytest

from fiat_jax.errors import UserError
from fiat_jax.reasoning.ledger import Ledger
from fiat_jax.verbs.budget import Budget, Runs, paid_on, table
from fiat_jax.verbs.fold_runs import FoldRuns
from fiat_jax.verbs.forecast import Forecast


def forecast(name, minutes, money=0.0, done=False):
  return Forecast(name=name, title=name, runs=1, minutes=minutes, money=money, done=done)


FOUND = [forecast("beta", 0.0), forecast("lora", 4.0), forecast("full", 10.0), forecast("icl", None, 2.0)]


def test_a_budget_is_minutes_and_perhaps_money():
  assert Budget.parse("60") == Budget(60.0, math.inf) and Budget.parse("60,2.5") == Budget(60.0, 2.5)
  assert Budget.parse("") == Budget()
  for text in ("an hour", "1,2,3", "-1", "nan"):
    with pytest.raises(UserError, match="give minutes, or minutes and money"):
      Budget.parse(text)


def test_the_cheapest_come_first_and_the_dear_are_left():
  assert [one.name for one in sorted(reversed(FOUND), key=lambda one: one.order)] == ["beta", "lora", "full", "icl"]
  assert Runs(FOUND, Budget()).names == ["beta", "lora", "full", "icl"]
  assert Runs(FOUND, Budget(5, 1)).names == ["beta", "lora"] and Runs(FOUND, Budget(5, 1)).over == {"full", "icl"}
  assert Runs([forecast("lora", 4.0, done=True)], Budget(0)).names == ["lora"], "what is done is kept"


def test_runs_that_take_longer_than_foretold_leave_less_for_the_others(capsys):
  now = [0.0]
  runs = Runs(FOUND, Budget(20), clock=lambda: now[0])
  for seconds in (0, 480):  # the second takes twice its 4 minutes
    name = runs.next()
    assert name
    now[0] += seconds
    runs.end(name)
  assert runs.over == {"full"} and runs.left == ["icl"], "8 minutes and twice 10 are more than 20"
  assert "full: not run, --budget does not allow it" in capsys.readouterr().err
  assert Runs([*FOUND[:2], forecast("kept", 1.0, done=True)], Budget()).undone == ["beta", "lora"]


def test_the_table_adds_up_what_is_allowed():
  shown = table(FOUND, ["beta", "lora"], Budget(5, 1)).splitlines()
  cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in shown]
  assert cells[2] == ["beta", "1", "0.0", "0.00", ""] and cells[4] == ["full", "1", "10.0", "0.00", "over --budget"]
  assert cells[5][2] == "?" and cells[6] == ["together", "2", "4.0", "0.00", ""] and cells[7][2:4] == ["5", "1"]


def test_what_nobody_knows_comes_after_what_is_known_and_is_not_called_free():
  found = [forecast("asked", None, math.inf), forecast("local", None), forecast("icl", None, 2.0), *FOUND[:2]]
  found = sorted(found, key=lambda one: one.order)
  assert [one.name for one in found] == ["beta", "lora", "local", "icl", "asked"]
  shown = [
    [cell.strip() for cell in line.strip("|").split("|")] for line in table(found, ["asked"], Budget()).split("\n")
  ]
  assert shown[6][:4] == ["asked", "1", "?", "?"] and shown[7][3] == "?"
  assert Runs(found, Budget(5)).names[-1] == "asked", "without an end to money it may cost what it does"
  with pytest.raises(UserError, match=r"0\.5 of money cannot be kept without the price of asked: give --price"):
    Runs(found, Budget(60, 0.5))
  assert Runs([forecast("asked", 0.0, math.inf, done=True)], Budget(60, 0.5)).names == ["asked"]


def test_runs_that_cost_more_than_foretold_leave_less_for_the_others(tmp_path):
  ledger = Ledger(tmp_path, "me", 0.0)

  def pay(key, cost):
    ledger.close_all(settled={ledger.reserve([(key, cost)]).ids[key]: cost})

  pay("before", 40.0)
  found = [forecast("free", 1.0), forecast("icl", None, 2.0), forecast("cot", None, 3.0), forecast("beta", None, 4.5)]
  runs = Runs(found, Budget(60, 9), paid=lambda: paid_on(str(tmp_path)))
  assert runs.names == ["free", "icl", "cot"]
  runs.end("free")
  assert runs.names == ["free", "icl", "cot"], "what was paid before this command is no part of its budget"
  pay("icl", 6.5)
  runs.end("icl")
  assert not runs.left and runs.over == {"cot", "beta"}
  ledger.close()
  assert paid_on(str(tmp_path)) == 46.5 and paid_on("") == 0 and paid_on(str(tmp_path / "none")) == 0
  assert not (tmp_path / "none").exists()


def fold_runs(budget, done=(), now=None, paid=lambda: 0.0):
  """Over three folds; `done` are pairs of a recipe and a fold."""
  clock = (lambda: now[0]) if now else (lambda: 0.0)
  done_of = lambda one: dataclasses.replace(one, minutes=0.0, money=0.0, done=True)  # noqa: E731
  folds = [[done_of(one) if (one.name, fold) in done else one for one in FOUND] for fold in range(3)]
  return FoldRuns(folds, budget, clock, paid)


def test_a_budget_over_folds_is_for_all_of_them():
  assert fold_runs(Budget()).names == ["beta", "lora", "full", "icl"]
  assert fold_runs(Budget(40, 5)).names == ["beta", "lora"], "3 times 4 minutes, not 3 times 10, nor 3 times 2 of money"
  half_done = fold_runs(Budget(12, 5), done={("lora", 0), ("lora", 1), ("full", 0), ("full", 1)})
  cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in half_done.shown.splitlines()]
  assert half_done.names == ["beta", "lora"] and cells[3] == ["lora", "1", "4.0", "0.00", ""]
  with pytest.raises(UserError, match="it allows no recipe in all folds"):
    FoldRuns([FOUND[1:2]] * 3, Budget(11))


def test_folds_that_take_longer_than_foretold_leave_the_dear_recipes_out_of_all(capsys):
  now, paid = [0.0], [3.0]
  runs = fold_runs(Budget(60, 10), now=now, paid=lambda: paid[0])
  assert runs.begin(0) == ["beta", "lora", "full", "icl"]
  now[0], paid[0] = 28 * 60, 5.0  # twice the 14 minutes; 2 of money as foretold
  assert runs.begin(1) == ["beta", "lora", "icl"] and runs.over == {"full"}, "32 minutes are left for it, not 56"
  assert "full: left out from here on" in capsys.readouterr().err
  paid[0] = 12.0
  assert runs.begin(2) == ["beta", "lora"]
  now[0] = 90 * 60
  assert runs.begin(2) == ["beta"], "what takes nothing is not left out"


def test_what_is_never_run_says_nothing_of_how_long_the_rest_takes():
  now = [0.0]
  runs = fold_runs(Budget(30, 1), now=now)
  assert runs.begin(0) == ["beta", "lora"]
  now[0] = 16 * 60  # four times the 4 minutes
  assert runs.begin(1) == ["beta"], "of 14 minutes left 32 would be needed"
