"""What every verb that predicts does: a recipe's answers to a split, with progress, and doubts about the scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax import processes
from fiat_jax.decoding.beam import Beams
from fiat_jax.decoding.engine import Engine
from fiat_jax.evaluation import diagnosis, evaluate, metrics
from fiat_jax.evaluation.evaluate import Prediction
from fiat_jax.progress import progress, say
from fiat_jax.reasoning.answers import AnswerRule
from fiat_jax.recipe import Recipe
from fiat_jax.workbench import Workbench


def predict(
  bench: Workbench,
  split: str,
  recipe: Recipe,
  engine: Engine | None,
  limit: int | None = None,
  *,
  searched: bool = True,
) -> list[Prediction]:
  """The answers of the recipe to every row of a split, or to the first `limit`; the recipe `beta` needs no engine.

  `searched`: by beam search where the settings ask for it; without, greedily.
  """
  rows, settings = bench.shards.read(split, recipe)[:limit], bench.settings
  if recipe.answer_of_beta or engine is None:
    return evaluate.answers_of_beta(rows, AnswerRule.parse(settings.answer))
  tokenizer, shard = bench.models.of(recipe).tokenizer, bench.shards.of(split, recipe)
  with progress(f"answering {split}", len(rows)) as bar:

    def on_done() -> None:
      bar.advance()
      processes.check_signals()

    if settings.labels:
      return evaluate.choose_label(engine, tokenizer, rows, shard, on_done=on_done)
    beams = None
    if searched and settings.beams > 1:
      beams = Beams(count=settings.beams, length_penalty=settings.length_penalty)
    return evaluate.generate(
      engine,
      tokenizer,
      rows,
      shard,
      target_length=settings.target_length,
      on_done=on_done,
      beams=beams,
      temperature=settings.answer_temperature,
      as_written=any(name in metrics.RUNS_CODE for name in settings.metrics),
    )


def say_doubts(results: Sequence[Mapping[str, Any]], names: Sequence[str], split: str) -> None:
  """Beside a table: results that look as if something other than the model were wrong."""
  for doubt in diagnosis.doubts(results, names, split):
    say(f"warning: {doubt}")
