"""Labels of a row, scored by the tuned model of a deployment."""

from __future__ import annotations

from collections.abc import Sequence

from fiat_jax import sharding, signals
from fiat_jax.data.row import Row
from fiat_jax.decoding.engine import Engine, Session
from fiat_jax.decoding.lengths import bucket
from fiat_jax.evaluation.evaluate import label_scores
from fiat_jax.recipe import Recipe
from fiat_jax.serving.predict import Choose
from fiat_jax.workbench import Workbench


def choose(bench: Workbench, recipe: Recipe, session: Session | None) -> Choose:
  """Scores a row's labels, one row at a time."""
  assert session is not None, "labels are scored here"
  engine, tokenizer, mesh = session.engine, bench.models.of(recipe).tokenizer, sharding.mesh()

  def chosen(row: Row, ids: Sequence[int]) -> str:
    with sharding.over(mesh):  # which JAX keeps a thread
      scores = label_scores(engine, tokenizer, row.labels, ids)
    return max(scores, key=scores.__getitem__)

  return chosen


def compile_all(bench: Workbench, recipe: Recipe, engine: Engine) -> None:
  """Scores labels behind prompts of every static length, so that no client waits for a compiler.

  Of labels that each row brings nothing is known: short ones stand for them.
  """
  settings, tokenizer = bench.settings, bench.models.of(recipe).tokenizer
  labels = settings.labels if isinstance(settings.labels, tuple) else ("a", "b")
  more = sum(len(tokenizer.encode(label)) + (tokenizer.end_id is not None) for label in labels)
  before = len(engine.virtual)
  lengths = range(1, settings.source_length + 1)
  of_width = {(bucket(before + count), bucket(before + count + more)): count for count in lengths}
  for count in of_width.values():
    signals.check()
    label_scores(engine, tokenizer, labels, [0] * count)
