"""A big model that runs in the deployment's own process: room for its prompts, and a place for each of its samples."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from bytes_model import write_bytes_model

from fiat_jax.configuration import configure
from fiat_jax.data.row import Row
from fiat_jax.decoding.engine import Engine
from fiat_jax.decoding.request import Request
from fiat_jax.errors import UserError
from fiat_jax.models import pretrained
from fiat_jax.models.lora import LoraConfig
from fiat_jax.models.pretrained import Description
from fiat_jax.reasoning.engine import EngineReasoner
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.reasoning.store import Store
from fiat_jax.serving.beta import Beta, Reasoning, Unanswered
from fiat_jax.serving.metrics import Metrics
from fiat_jax.serving.worker import Worker
from fiat_jax.settings import Settings
from fiat_jax.verbs import deployed_beta

FLAGS = {
  "SLOTS": 2,
  "QUEUE": 2,
  "SOURCE_LENGTH": 64,
  "REASONING_LENGTH": 32,
  "REASONING_INSTRUCTION": "{x}",
  "ANSWER": r"(?P<answer>\S)",
}
ROW = Row(id="a", lang="", group="a", x="what is 1 + 2?", targets=(), reasoning=None, labels=(), line=1, fields={})
SHOWN = {"REASONING_INSTRUCTION": "{exemplars}Q: {x}\nA:", "SHOTS": 2, "SHOT_CHOICE": "first"}


@pytest.fixture(scope="module")
def described(tmp_path_factory) -> Description:
  folder = write_bytes_model(tmp_path_factory.mktemp("model"))
  return pretrained.describe(folder, dtype="float32", lora=LoraConfig())


def settings(**flags: object) -> Settings:
  return configure([], [], {**FLAGS, "BETA": "big", **flags}).settings


def reasoner(found: Settings, described: Description) -> EngineReasoner:
  """One whose answers soon end: every eighth token is an end."""

  def start() -> Engine:
    weights = described.family.unstack(pretrained.load(described))
    decode = described.tokenizer.decode
    return Engine(described.module, weights, stop_ids=range(0, 256, 8), slots=found.slots, decode=decode)

  return EngineReasoner(found, "big", "", described, start)


def answers(
  found: Settings, asked: EngineReasoner, rows: Sequence[Row], folder: Path
) -> list[Reasoning | BaseException]:
  """What comes of rows that are asked about at once."""
  made = deployed_beta.session_of(asked, found)
  assert made
  session, places = made[1], found.slots + found.queue

  async def run() -> list[Reasoning | BaseException]:
    worker = Worker(session, slots=found.slots, places=places, metrics=Metrics())
    beta = Beta(found, asked, deployed_beta.of_engine(worker, asked, places), folder, room=session.lengths.whole)
    try:
      return await asyncio.gather(*map(beta.of, rows), return_exceptions=True)
    finally:
      await beta.close()
      worker.stop()

  return asyncio.run(run())


def test_the_longest_question_is_read_whole_and_a_longer_one_is_refused(described, tmp_path):
  found = settings()
  asked = reasoner(found, described)
  marks = asked.count([""])[0]
  longest = dataclasses.replace(ROW, x=("what is 12 + 7? " * 8)[: 2 * found.source_length])
  longer = dataclasses.replace(ROW, x=longest.x + "x")
  read, refused = answers(found, asked, [longest, longer], tmp_path)
  (ids,) = described.tokenizer.encode_prompts([longest.x])
  assert len(ids) == marks + 2 * found.source_length
  (alone,) = asked.engine.generate([Request(tokens=ids, max_new_tokens=found.reasoning_length)])
  assert isinstance(read, Reasoning) and read.text == described.tokenizer.decode(alone.tokens).strip()
  assert isinstance(refused, Unanswered) and refused.status == 422
  assert f"longer than the {len(ids) + 32} tokens that the big model takes here" in str(refused)


def test_exemplars_have_room_beside_the_question(described, tmp_path):
  shots = [{"id": f"s{n}", "input": f"{n} " * 60, "reasoning": "so it is. " * 20} for n in range(3)]
  (tmp_path / "shots.jsonl").write_text("\n".join(map(json.dumps, shots)))
  found = settings(**SHOWN, EXEMPLARS=str(tmp_path / "shots.jsonl"))
  asked = reasoner(found, described)
  made = deployed_beta.session_of(asked, found)
  assert made
  template = ReasoningPrompt.parse(found.reasoning_instruction)
  rows = [dataclasses.replace(ROW, x=shot["input"], reasoning=shot["reasoning"]) for shot in shots]
  (count,) = asked.count([template.render("y" * 100, rows[:2])])
  assert count > 4 * found.source_length and made[1].lengths.prompt >= count
  assert made[1].lengths.whole <= described.family.room


def test_a_model_without_room_for_a_prompt_is_told(described):
  found = settings(REASONING_LENGTH=1024)
  with pytest.raises(UserError, match="--reasoning_length 1024 leaves no room for a prompt"):
    deployed_beta.session_of(reasoner(found, described), found)


def test_more_samples_than_places_wait_for_one(described, tmp_path):
  """Five samples of six rows, and four places: all are asked, and none is refused for want of a place."""
  found = settings(SAMPLES=5, TEMPERATURE=1.0)
  asked = reasoner(found, described)
  rows = [dataclasses.replace(ROW, x=f"what is {n}?") for n in range(6)]
  came = answers(found, asked, rows, tmp_path)
  told = [str(one) if isinstance(one, Unanswered) else one.missing for one in came]  # pyright: ignore[reportAttributeAccessIssue]
  assert not any("under way or wait" in text for text in told), told
  assert len(Store(tmp_path, "").kept) == 5 * len(rows)
