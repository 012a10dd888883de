"""What is learned, as the verbs `train` and `evaluate` see it: answers to rows, spans that a text lost, or chats."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fiat_jax import processes, sharding
from fiat_jax.data.batches import Examples, choose_shape, longest_size
from fiat_jax.data.packing import Packing, Shape
from fiat_jax.data.pairs import packing_of
from fiat_jax.data.prompted import prompted
from fiat_jax.errors import UserError
from fiat_jax.evaluation import diagnosis, latency, metrics, report, teacher_forced
from fiat_jax.evaluation.evaluate import summarise, write_predictions
from fiat_jax.progress import progress, say
from fiat_jax.recipe import Recipe
from fiat_jax.training import microbatch
from fiat_jax.verbs.answered import Answered, answered
from fiat_jax.verbs.predictions import say_doubts
from fiat_jax.workbench import Workbench


class Objective(Protocol):
  """How a trained tree is judged; None is the model as it came.

  Attributes:
    unit: what training goes through.
    written: what stands in the run folder afterwards.
    seconds: that answering took, by split, once it was judged; without compiling.
    latency: of single test rows, once those were judged; empty where it was not measured.
    asked: the splits that were looked at so far.
  """

  unit: str
  written: str
  seconds: dict[str, float]
  latency: dict[str, float]
  asked: set[str]

  def validate(self, tree: Any | None) -> dict[str, float]:
    """The scores on validation."""
    ...

  def judge(self, split: str, tree: Any | None, folder: pathlib.Path) -> dict[str, Any]:
    """What results say of a split; what belongs to it is written into the run folder."""
    ...

  def show(self, results: Sequence[Mapping[str, Any]], split: str) -> None:
    """Prints results as a table."""
    ...


def objective_of(bench: Workbench, recipe: Recipe) -> Objective:
  refuse_in_context(recipe)
  return ByLoss(bench, recipe) if bench.settings.by_loss else Answers(bench, recipe)


def refuse_in_context(recipe: Recipe) -> None:
  """Raises UserError for a recipe that reads no tokenised rows but prompts of its own, which `fiat compare` makes."""
  if recipe.in_context:
    raise UserError(f"the recipe {recipe.title!r} asks in context, which `fiat compare --recipes …` does")


class Answers:
  """An `Objective`: answers are generated, or chosen, and scored."""

  unit, written = "rows", "predictions/{split}.jsonl holds the answers"

  def __init__(self, bench: Workbench, recipe: Recipe):
    self._bench, self._recipe, self._metrics = bench, recipe, bench.settings.metrics
    self._stuck = diagnosis.Stuck(self._metrics)
    self.seconds: dict[str, float] = {}
    self.latency: dict[str, float] = {}
    self.asked: set[str] = set()

  def validate(self, tree: Any | None) -> dict[str, float]:
    found = self._answered("validation", tree, searched=False)
    summary = summarise(found.predictions, self._metrics)
    for doubt in self._stuck.heard(summary):
      say(f"warning: {self._recipe.title}: {doubt}")
    return summary["overall"]

  def judge(self, split: str, tree: Any | None, folder: pathlib.Path) -> dict[str, Any]:
    predictions, seconds = self._answered(split, tree)
    if self._recipe.runs_model:
      self.seconds[split] = round(seconds, 3)
    if self._recipe.runs_model and split == "test":
      self.latency = self._latency(split, tree)
    if any(name in metrics.JUDGED for name in self._metrics):
      from fiat_jax.evaluation.judge import judged  # the package `openai` is slow to import

      predictions = judged(predictions, self._metrics, self._bench.settings)
    file = folder / "predictions" / f"{split}.jsonl"
    write_predictions(file, predictions, self._metrics, with_reasoning=self._recipe.needs_reasoning)
    return summarise(predictions, self._metrics)

  def _answered(self, split: str, tree: Any | None, *, searched: bool = True) -> Answered:
    self.asked.add(split)
    return answered(self._bench, self._recipe, split, tree, searched=searched)

  def _latency(self, split: str, tree: Any | None) -> dict[str, float]:
    bench, recipe = self._bench, self._recipe
    engine, shard = bench.models.engine(recipe, tree), bench.shards.of(split, recipe)
    if not bench.settings.labels:
      return latency.measured(engine, shard, bench.settings.target_length)
    return latency.of_labels(engine, bench.models.of(recipe).tokenizer, bench.shards.read(split, recipe), shard)

  def show(self, results: Sequence[Mapping[str, Any]], split: str) -> None:
    print(report.table(results, self._metrics, split))
    say_doubts(results, self._metrics, split)


class ByLoss:
  """An `Objective`: the loss on spans that are left out, the same ones each time, or on the assistant's turns."""

  written = "evaluation_{split}.json holds them"

  def __init__(self, bench: Workbench, recipe: Recipe):
    if recipe.reasoning or recipe.answer_of_beta:
      what = "whole chats" if bench.settings.chats else "x alone"
      raise UserError(
        f"the recipe {recipe.title!r} reads reasoning, and --objective {bench.settings.objective} {what}: choose "
        "--recipes full_fine_tuning, or fine_tuning, which is LoRA"
      )
    self.unit = "chats" if bench.settings.chats else "pieces of text"
    self._bench, self._recipe = bench, recipe
    self.seconds: dict[str, float] = {}
    self.latency: dict[str, float] = {}
    self.asked: set[str] = set()

  def validate(self, tree: Any | None) -> dict[str, float]:
    return self.judge("validation", tree, pathlib.Path())["overall"]

  def judge(self, split: str, tree: Any | None, folder: pathlib.Path) -> dict[str, Any]:
    self.asked.add(split)
    bench, described = self._bench, self._bench.models.of(self._recipe)
    examples = prompted(bench.shards.examples(split, self._recipe), bench.models.virtual(self._recipe))
    packing = packing_of(described.family.start_id)
    shape = self._shape(packing, examples)
    variables = bench.models.variables(self._recipe, tree)

    with progress(f"measuring the loss on {split}", len(examples)) as bar:

      def on_done(count: int) -> None:
        bar.advance(count)
        processes.check_signals()

      found = teacher_forced.score(described.module, variables, examples, packing, shape, on_done)
    counts = {
      "rows": len(bench.rows[split]),
      self.unit.split()[0]: len(examples),
      "target_tokens": int(found["tokens"]),
    }
    return {**counts, "overall": {name: found[name] for name in bench.settings.scores}}

  def _shape(self, packing: Packing, examples: Examples) -> Shape:
    bench, longest = self._bench, longest_size(packing, examples)
    held = 4 * microbatch.size(
      bench.models.params(self._recipe)
    )  # the optimizer's state of full fine-tuning stays beside it
    tokens = bench.settings.microbatch_tokens or microbatch.tokens_that_fit(
      bench.models.of(self._recipe).family, longest, held
    )
    return choose_shape(examples, tokens, teacher_forced.CHUNK, packing=packing, parts=sharding.ways("batch"))

  def show(self, results: Sequence[Mapping[str, Any]], split: str) -> None:
    print(report.losses(results, self._bench.settings.scores, split))
