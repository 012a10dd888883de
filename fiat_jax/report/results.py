"""What a comparison's run folder holds, read back: `results.json` and the predictions on test. Nothing is computed."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fiat_jax.errors import UserError
from fiat_jax.evaluation.published import Figure
from fiat_jax.recipe import Recipe
from fiat_jax.whole import read_records, read_result

SWITCHES: Mapping[str, Any] = {  # with what they are in runs that are older than they
  field.name: field.default for field in dataclasses.fields(Recipe) if field.name not in ("title", "overrides")
}
UNAIDED = "without_reasoning"  # what a comparison calls the tuned model's answers without the big one's help
Answer = Mapping[str, Any]  # a line of predictions/test.jsonl


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
  """One recipe's: its object in `results.json`, and its answers to the test rows, a list a seed.

  `unaided` are the answers with the reasoning left out; empty where there are none.
  """

  record: Mapping[str, Any]
  answers: tuple[Sequence[Answer], ...]
  unaided: tuple[Sequence[Answer], ...] = ()

  @property
  def name(self) -> str:
    return self.record["recipe"]

  @property
  def title(self) -> str:
    return self.record["title"] or self.name

  @property
  def runs(self) -> Sequence[Mapping[str, Any]]:
    """Those of its seeds."""
    return self.record.get("seeds") or [self.record]

  @property
  def test(self) -> Mapping[str, Any]:
    return self.record["test"]

  @property
  def interval(self) -> tuple[float, float]:
    return tuple(self.record["interval"])

  @property
  def switches(self) -> Mapping[str, Any]:
    """Empty where the folder is of a version that did not keep them."""
    kept = self.record.get("switches")
    return {name: kept.get(name, before) for name, before in SWITCHES.items()} if kept else {}

  @property
  def overrides(self) -> Mapping[str, Any]:
    """Settings that are the recipe's own."""
    return self.record.get("switches", {}).get("overrides") or {}

  @property
  def reads_reasoning(self) -> bool:
    """So that each answer of it needs one of the big model."""
    return bool(self.switches.get("reasoning") or self.of_beta)

  @property
  def of_beta(self) -> bool:
    return bool(self.switches.get("answer_of_beta"))

  @property
  def asks_beta(self) -> bool:
    """Whether it costs what an answer of the big model does, read or given in context."""
    return self.reads_reasoning or self.switches.get("in_context") == "beta"

  @property
  def trains(self) -> bool:
    return not self.of_beta and self.switches.get("adapter", "none") != "none"

  @property
  def seconds(self) -> float | None:
    """Per 1,000 answers on test, with those of the big model where they are known; over seeds the mean.

    None where they were not measured.
    """
    found = [run["answer_seconds"]["test"] for run in self.runs if "test" in run.get("answer_seconds", {})]
    here = 1000 * statistics.fmean(found) / self.test["rows"] if found else None
    return self._with_beta(here, self.beta_seconds)

  @property
  def beta_seconds(self) -> float | None:
    """Of the big model per 1,000 answers, as its endpoint took them; None where they are not known, or none are."""
    return self.record.get("reasoning_seconds")

  @property
  def lacks_beta_seconds(self) -> bool:
    """Whether seconds are those of the tuned model alone, though it reads what the big one writes."""
    return self.reads_reasoning and not self.of_beta and self.beta_seconds is None

  def latency(self, quantile: str) -> float | None:
    """Seconds of a single answer on test, `p50` or `p95`, with the big model's; over seeds the mean.

    The sum of both models' quantiles. None where it was not measured.
    """
    found = [run["latency"][quantile] for run in self.runs if "latency" in run]
    here = statistics.fmean(found) if found else None
    return self._with_beta(here, self.record.get("reasoning_latency", {}).get(quantile))

  def _with_beta(self, here: float | None, of_beta: float | None) -> float | None:
    """The sum; in context an endpoint's latency is there already."""
    if self.reads_reasoning and not self.of_beta:
      return None if here is None else here + (of_beta or 0.0)
    return of_beta if here is None else here

  @property
  def money(self) -> float | None:
    """What the big model's reasoning costs per 1,000 answers; None where it is not known."""
    return self.record.get("reasoning_cost") if self.asks_beta else 0.0 if self.switches else None

  def scores(self, metric: str) -> np.ndarray:
    """Of every test row, [seeds, N]."""
    return _scores(self.answers, metric)

  def unaided_scores(self, metric: str) -> np.ndarray:
    """The same of the answers without reasoning."""
    return _scores(self.unaided, metric)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
  """A run folder. The rows are those of test, in their order; `to_come` says in words what is still to be run;
  `not_run` has `title`, `needs` and `command` of those that lack something; `prompts` are the wordings that a search of
  prompts tried; `programs` counts those that JAX `made`, and those of them that it `found` compiled; `folds` is 0 where
  there are none; `basis` has the `models` that recipes are tuned from, the number of `train_rows`, the `seeds` and
  more; `sizes` are differences between recipes by the number of training rows; `labels` has the rows of each label by
  split, where targets are labels.
  """

  results: tuple[Result, ...]
  metrics: tuple[str, ...]
  verdict: Mapping[str, Any] | None
  could_show: str
  rows: Mapping[str, Mapping[str, int]]
  warnings: tuple[str, ...]
  not_run: Mapping[str, Mapping[str, str]] = dataclasses.field(default_factory=dict)
  published: tuple[Figure, ...] = ()
  programs: Mapping[str, int] = dataclasses.field(default_factory=dict)
  prompts: tuple[Mapping[str, Any], ...] = ()
  folds: int = 0
  basis: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  sizes: tuple[Mapping[str, Any], ...] = ()
  to_come: tuple[str, ...] = ()
  labels: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)

  @property
  def metric(self) -> str:
    """The first: what the verdict is about."""
    return self.metrics[0]

  @property
  def answers(self) -> Sequence[Answer]:
    """Of the first recipe's first seed: what stands there of a row is the same in all."""
    return self.results[0].answers[0]

  @functools.cached_property
  def langs(self) -> list[str]:
    return [answer["lang"] for answer in self.answers]

  @functools.cached_property
  def groups(self) -> list[str]:
    return [answer["group"] for answer in self.answers]

  @property
  def languages(self) -> list[str]:
    """Those of the test rows, sorted."""
    return sorted(set(self.langs))

  @property
  def pick(self) -> Result | None:
    """The recipe that validation chose."""
    return self.result(self.verdict["pick"]) if self.verdict else None

  def result(self, name: str) -> Result:
    return next(result for result in self.results if result.name == name)

  def pair(self, first: Result, second: Result) -> Mapping[str, Any] | None:
    """By how much the first is above the second on test, as the verdict has it: `difference`, `interval`, `p`."""
    for pair in self.verdict["pairs"] if self.verdict else ():
      if (pair["first"], pair["second"]) == (first.name, second.name):
        return pair
      if (pair["first"], pair["second"]) == (second.name, first.name):
        low, high = pair["interval"]
        return {**pair, "difference": -pair["difference"], "interval": (-high, -low)}
    return None


def read(folder: pathlib.Path) -> Comparison:
  """The comparison in a run folder.

  Raises:
    UserError: a file is missing or broken, or predictions are of other rows than the first recipe's.
  """
  record = read_result(folder / "results.json")
  results = tuple(_result(folder, recipe) for recipe in record["recipes"] if "test" in recipe)
  if not results:
    raise UserError("holds no scores on test: run `fiat compare` with --test FILE", folder / "results.json")
  for result in results:
    for answers in (*result.answers, *result.unaided):
      if [answer["id"] for answer in answers] != [answer["id"] for answer in results[0].answers[0]]:
        raise UserError(
          f"{result.name} answered other rows than {results[0].name}: compare in a new --model_dir", folder
        )
  return Comparison(
    results=results,
    metrics=tuple(record.get("metrics") or results[0].test["overall"]),
    verdict=record.get("verdict"),
    could_show=record.get("could_show", ""),
    rows=record.get("rows", {}),
    warnings=tuple(record.get("warnings", ())),
    not_run=record.get("not_run", {}),
    published=tuple(Figure(**{**figure, "langs": tuple(figure["langs"])}) for figure in record.get("published", ())),
    programs=record.get("programs", {}),
    basis=record.get("basis", {}),
    sizes=tuple(record.get("sizes", ())),
    to_come=tuple(record.get("to_come", ())),
    labels=record.get("labels", {}),
    prompts=tuple(record.get("prompt_search", ())),
    folds=record.get("folds", 0),
  )


def _result(folder: pathlib.Path, recipe: Mapping[str, Any]) -> Result:
  home = folder / recipe["recipe"]
  runs = [home / f"seed_{run['seed']}" for run in recipe["seeds"]] if recipe.get("seeds") else [home]
  unaided = [run / UNAIDED for run in runs] if UNAIDED in recipe else []
  return Result(record=recipe, answers=tuple(map(_answers, runs)), unaided=tuple(map(_answers, unaided)))


def _scores(of_seeds: Sequence[Sequence[Answer]], metric: str) -> np.ndarray:
  return np.array([[answer[metric] for answer in answers] for answers in of_seeds])


def _answers(run: pathlib.Path) -> Sequence[Answer]:
  return read_records(run / "predictions" / "test.jsonl")
