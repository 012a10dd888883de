"""A row's reasoning in a deployment: of several samples the one that most agree with counts, as when it was bought."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from fiat_jax.configuration import configure
from fiat_jax.data.row import Row
from fiat_jax.errors import UserError
from fiat_jax.exports import deployment
from fiat_jax.reasoning import reasoner, view
from fiat_jax.reasoning.ledger import Ledger
from fiat_jax.reasoning.request import Answer, Request
from fiat_jax.serving.beta import Beta, Reasoning
from fiat_jax.serving.turns import Turns, Unanswered
from fiat_jax.settings import Settings
from fiat_jax.verbs import deployed_beta

Said = Mapping[int, str | Exception]
FLAGS = {"BETA": "openai:big", "BETA_URL": "http://127.0.0.1:9/v1", "ANSWER": r"= (?P<answer>\d+)", "PRICE": "1,1"}
ROW = Row(id="a", lang="", group="a", x="what is 1 + 2?", targets=(), reasoning=None, labels=(), line=1, fields={})


def settings(**flags: object) -> Settings:
  return configure([], [], {**FLAGS, "SAMPLES": 3, "TEMPERATURE": 0.7, **flags}).settings


def asked(
  folder: Path, said: Said, times: int = 1, **flags: object
) -> tuple[list[Reasoning], collections.Counter[int]]:
  """What comes of a row that is asked about so often, one time after the other; how often each sample was bought."""
  found, bought = settings(**flags), collections.Counter[int]()

  async def ask(request: Request) -> Answer:
    bought[request.sample] += 1
    text = said[request.sample]
    if isinstance(text, Exception):
      raise text
    return Answer(text=text, finish="stop", tokens=(10, 5))

  async def run() -> list[Reasoning]:
    beta = Beta(found, reasoner.make(configure([], [], {**FLAGS, **flags})), ask, folder)
    try:
      return [await beta.of(ROW) for _ in range(times)]
    finally:
      await beta.close()

  return asyncio.run(run()), bought


def test_the_answer_that_most_samples_have_is_the_reasoning(tmp_path):
  said = {0: "one more = 4", 1: "so it is = 3", 2: "that is = 3"}
  (first, again), bought = asked(tmp_path, said, times=2)
  assert first.text == again.text == "so it is = 3"
  assert first.source == "beta" and first.tokens == (30, 15) and first.cost == pytest.approx(45e-6)
  assert again.source == "store" and again.cost == 0 and bought == {0: 1, 1: 1, 2: 1}


def test_samples_that_do_not_come_do_not_vote(tmp_path):
  (found,), _ = asked(tmp_path, {0: Unanswered("refused"), 1: "nothing", 2: "it is = 3"})
  assert found.text == "it is = 3" and found.tokens == (20, 10)
  assert found.missing == "1 of 3 samples did not come: refused", "fewer voted than were asked for, and nobody is told"


def test_an_answer_that_cannot_be_used_has_its_cost(tmp_path):
  with pytest.raises(Unanswered, match="--answer finds no answer in it") as e:
    asked(tmp_path / "a", dict.fromkeys(range(3), "nothing"))
  assert e.value.cost == pytest.approx(45e-6)
  with pytest.raises(Unanswered, match="empty") as e:
    asked(tmp_path / "b", dict.fromkeys(range(3), " "))
  assert e.value.cost == pytest.approx(45e-6)


def test_where_no_sample_comes_or_none_has_an_answer_there_is_no_reasoning(tmp_path):
  with pytest.raises(Unanswered, match="refused"):
    asked(tmp_path / "a", dict.fromkeys(range(3), Unanswered("refused")))
  with pytest.raises(Unanswered, match="--answer finds no answer in it"):
    asked(tmp_path / "b", dict.fromkeys(range(3), "nothing"))


def test_a_fault_of_ours_is_not_taken_for_a_sample_that_did_not_come(tmp_path):
  with pytest.raises(KeyError):
    asked(tmp_path, {0: "it is = 3", 1: KeyError("a"), 2: "it is = 3"})


@pytest.mark.parametrize(
  ("wrote", "warns"),
  [("big", False), ("other", True), ("/there/model@0123-float32", True)],
)
def test_another_big_model_than_the_one_that_it_was_trained_on_is_said(wrote, warns, capsys):
  configured = configure([], ["a/Recipe.reasoning=True"], FLAGS)
  content = {"reasoned_by": [wrote]}
  found = deployed_beta.asked_of(configured, configured.recipe("a"), deployment.Deployment(Path("there"), content, "d"))
  said = capsys.readouterr().err
  assert (f"was trained on reasoning of {wrote}, and {found.name} answers now" in said) == warns


def test_a_view_says_who_wrote_it(tmp_path):
  found = settings(STORE=str(tmp_path), SAMPLES=1, TEMPERATURE=0.0)
  assert view.models(found) == frozenset()
  asked(tmp_path, {0: "it is = 3"}, SAMPLES=1, TEMPERATURE=0.0)
  (key,) = view.Store(tmp_path, "").kept
  view.write(found, [{"row": "r", "reasoning": "it is = 3", "keys": [key]}], ())
  assert view.models(found) == {"big"}


def spent(folder: Path) -> float:
  ledger = Ledger(folder, "reader", 0.0)
  ledger.close()
  return ledger.spent


def test_max_cost_holds_over_all_that_is_spent_on_the_store(tmp_path):
  """What a deployment spends is in the store's ledger, and what is there leaves the less for it; a day is apart."""
  one = {"SAMPLES": 1, "TEMPERATURE": 0.0, "PRICE": "1000,1000", "REASONING_LENGTH": 100}
  asked(tmp_path, {0: "it is = 3"}, **one)
  assert spent(tmp_path) == pytest.approx(0.015), "what is known to be spent is booked without any limit"
  with pytest.raises(Unanswered, match=r"--max_cost 0\.01 over .* leaves no room for a request") as e:
    asked(tmp_path, {}, **one, MAX_COST=0.01, REASONING_INSTRUCTION="Other. {x}")
  assert e.value.status == 429 and spent(tmp_path) == pytest.approx(0.015)
  with pytest.raises(Unanswered, match=r"the day's limit of 0\.01"):
    asked(tmp_path, {}, **one, MAX_COST=9.0, MAX_COST_A_DAY=0.01, REASONING_INSTRUCTION="Other. {x}")
  assert spent(tmp_path) == pytest.approx(0.015), "what the day refuses is not held back of the whole"
  both = {"MAX_COST": 9.0, "MAX_COST_A_DAY": 9.0, "REASONING_INSTRUCTION": "Other. {x}"}
  asked(tmp_path, {0: "it is = 3"}, **one, **both)
  (day,) = (tmp_path / "days").iterdir()
  assert spent(tmp_path) == pytest.approx(0.03) and spent(day) == pytest.approx(0.015)


def test_what_may_have_been_charged_counts_as_spent_and_a_refusal_does_not(tmp_path):
  one = {"SAMPLES": 1, "TEMPERATURE": 0.0, "PRICE": "1000,1000", "REASONING_LENGTH": 100}
  with pytest.raises(Unanswered):
    asked(tmp_path, {0: Unanswered("refused")}, **one)
  assert spent(tmp_path) == 0
  with pytest.raises(Unanswered):
    asked(tmp_path, {0: Unanswered("no answer", charged=True)}, **one)
  assert spent(tmp_path) >= 0.2


@pytest.mark.parametrize(
  ("flags", "hint"), [({"PRICE": ""}, "give --price INPUT,OUTPUT"), ({"STORE": ""}, "give --store FOLDER")]
)
def test_a_cap_that_cannot_be_kept_is_refused(flags, hint):
  configured = configure([], ["a/Recipe.reasoning=True"], {**FLAGS, "MAX_COST": 1.0, "STORE": "S", **flags})
  with pytest.raises(UserError, match=hint):
    deployed_beta.asked_of(configured, configured.recipe("a"), deployment.Deployment(Path("there"), {}, "d"))


def test_a_ledger_that_cannot_be_written_is_a_big_model_that_fails(tmp_path, monkeypatch):
  def full(*_: object) -> None:
    raise UserError("the disk is full", tmp_path)

  monkeypatch.setattr("fiat_jax.reasoning.ledger.Ledger._require_room", full)
  with pytest.raises(Unanswered, match="the disk is full") as e:
    asked(tmp_path, {}, SAMPLES=1, TEMPERATURE=0.0, MAX_COST_A_DAY=1.0)
  assert e.value.status == 503


def test_what_another_process_bought_is_not_bought_again(tmp_path):
  """Two servers on one store, one after another and at the same time."""
  found, bought = settings(SAMPLES=1, TEMPERATURE=0.0), []

  async def ask(request: Request) -> Answer:
    bought.append(request.key)
    await asyncio.sleep(0.3)
    return Answer(text="= 3", finish="stop", tokens=(10, 5))

  async def run() -> list[Reasoning]:
    big = reasoner.make(configure([], [], {**FLAGS, "SAMPLES": "1"}))
    servers = [Beta(found, big, ask, tmp_path) for _ in range(2)]
    try:
      return [*await asyncio.gather(*(server.of(ROW) for server in servers)), await servers[1].of(ROW)]
    finally:
      for server in servers:
        await server.close()

  said = asyncio.run(run())
  assert len(bought) == 1 and [one.text for one in said] == ["= 3"] * 3
  assert sorted(one.source for one in said) == ["beta", "store", "store"]


def test_an_answer_that_could_not_be_used_is_not_bought_again_unless_that_is_said(tmp_path):
  def once(**flags: object) -> int:
    bought = 0

    async def ask(request: Request) -> Answer:
      nonlocal bought
      bought += 1
      return Answer(text="= ", finish="length", tokens=(10, 5))

    async def run() -> None:
      beta = Beta(settings(SAMPLES=1, **flags), reasoner.make(configure([], [], FLAGS)), ask, tmp_path)
      try:
        with pytest.raises(Unanswered, match="cannot be used"):
          await beta.of(ROW)
      finally:
        await beta.close()

    asyncio.run(run())
    return bought

  assert [once(), once(), once(RETRY_FAILED="True")] == [1, 0, 1]


def test_questions_take_turns_and_too_many_are_refused(tmp_path):
  found, most, under_way = settings(SAMPLES=1, CONCURRENCY=2), [0], [0]

  async def ask(request: Request) -> Answer:
    under_way[0] += 1
    most[0] = max(most[0], under_way[0])
    await asyncio.sleep(0.05)
    under_way[0] -= 1
    return Answer(text="= 3", finish="stop", tokens=(10, 5))

  async def run() -> list[Reasoning | BaseException]:
    big = reasoner.make(configure([], [], FLAGS))
    beta = Beta(found, big, ask, tmp_path, turns=Turns(found, waiting=3))
    rows = [dataclasses.replace(ROW, x=f"what is {n}?") for n in range(8)]
    try:
      return await asyncio.gather(*map(beta.of, rows), return_exceptions=True)
    finally:
      await beta.close()

  came = asyncio.run(run())
  refused = [one for one in came if isinstance(one, Unanswered)]
  assert most == [2] and len(came) - len(refused) == 5
  assert all(one.status == 429 and one.wait > 0 for one in refused)
