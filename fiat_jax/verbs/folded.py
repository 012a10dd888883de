"""One recipe's result over all folds: its answers to every row, summed up, and the means of what each fold tells."""

from __future__ import annotations

import pathlib
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fiat_jax.configuration import Configuration
from fiat_jax.evaluation import curve
from fiat_jax.evaluation.evaluate import read_predictions, read_scores, summarise, write_predictions
from fiat_jax.verbs import learning_curve
from fiat_jax.verbs.recipe_runs import UNAIDED, over_seeds
from fiat_jax.verbs.seeds import homes

KEPT = ("recipe", "title", "seed", "tuned_parameters", "shots", "learning_rate")


def home(folder: pathlib.Path, fold: int) -> pathlib.Path:
  return folder / f"fold_{fold}"


def result(
  configuration: Configuration, folder: pathlib.Path, name: str, found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """A run a seed, whose answers to all rows are written.

  Args:
    found: the recipe's result of each fold.
  """
  seeds = [run["seed"] for run in found[0]["seeds"]] if found[0].get("seeds") else [None]
  runs = []
  for place, seed in enumerate(seeds):
    run = pathlib.Path(name) if seed is None else pathlib.Path(name) / f"seed_{seed}"
    of_seed = [one["seeds"][place] if seed is not None else one for one in found]
    runs.append(_of_seed(configuration, folder, run, of_seed))
  kept = {key: found[0][key] for key in ("switches", "tokens") if key in found[0]}  # every fold has all rows
  more = of_beta(found) | tried(found) | _sizes(configuration, folder, name, found)
  return {**over_seeds(runs), **kept, **more}


def of_beta(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """What the big model's answers took in all folds, from each fold's result; only what is known of every fold."""
  rows = [one["test"]["rows"] for one in found]
  took: dict[str, Any] = {
    key: statistics.fmean([one[key] for one in found], rows)
    for key in ("reasoning_cost", "reasoning_seconds")
    if all(key in one for one in found)
  }
  if all("reasoning_latency" in one for one in found):
    quantiles = found[0]["reasoning_latency"]
    took["reasoning_latency"] = {
      key: statistics.fmean([one["reasoning_latency"][key] for one in found], rows) for key in quantiles
    }
  return took


def tried(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """The settings that every fold tried, with the means over folds, and in how many of them each was chosen."""
  if not all("tried" in one for one in found):
    return {}
  return {
    "tried": [
      {
        **{key: value for key, value in trials[0].items() if key != "chosen"},
        **_means(trials, ("validation", "best_step")),
        "chosen_in": sum(bool(trial.get("chosen")) for trial in trials),
      }
      for trials in zip(*(one["tried"] for one in found), strict=True)
    ]
  }


def _of_seed(
  configuration: Configuration, folder: pathlib.Path, run: pathlib.Path, found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """The run of one seed: its answers to each fold's rows, one after another, summed up."""
  names, places = configuration.settings.metrics, [home(folder, n) / run for n in range(len(found))]
  of_all = {key: found[0][key] for key in KEPT if key in found[0]}
  wanted = {"validation": "", "test": ""} | ({UNAIDED: UNAIDED} if all(UNAIDED in one for one in found) else {})
  for key, beside in wanted.items():
    file = f"{beside}/predictions/test.jsonl".lstrip("/") if key == UNAIDED else f"predictions/{key}.jsonl"
    answers = [answer for place in places for answer in read_predictions(place / file)]
    reasoned = any(answer.row.reasoning is not None for answer in answers)
    write_predictions(folder / run / file, answers, names, with_reasoning=reasoned)
    of_all[key] = summarise(answers, names)
  if all("test" in one.get("answer_seconds", {}) for one in found):
    of_all["answer_seconds"] = {"test": sum(one["answer_seconds"]["test"] for one in found)}
  if all("truncated" in one for one in found):
    cut = sum(one["truncated"].get("test", 0) for one in found)
    of_all["truncated"] = {"validation": cut, "test": cut}  # each row is in both once
  if all("latency" in one for one in found):
    of_all["latency"] = _means([one["latency"] for one in found], ("p50", "p95"))
  if all(one.get("curve") for one in found):
    of_all["curve"] = over_training([one["curve"] for one in found])
  return of_all


def over_training(curves: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
  """The means of validation's scores at the steps that every fold has."""
  by_step = [{point["step"]: point for point in points} for points in curves]
  steps = [step for step in by_step[0] if all(step in of for of in by_step)]
  return [{**_means([of[step] for of in by_step], by_step[0][step]), "step": step} for step in steps]


def _sizes(
  configuration: Configuration, folder: pathlib.Path, name: str, found: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
  """The learning curve on the numbers of rows that every fold tried, over the test rows of all."""
  if not all("sizes" in one for one in found):
    return {}
  validation = [{point["rows"]: point["validation"] for point in one["sizes"]["points"]} for one in found]
  all_rows = [max(of) for of in validation]
  smaller = sorted(set.intersection(*(set(of) - {whole} for of, whole in zip(validation, all_rows, strict=True))))
  if not smaller:
    return {}
  settings, places = configuration.settings, [home(folder, n) / name for n in range(len(found))]

  def scores(of_fold: Callable[[pathlib.Path], Sequence[pathlib.Path]]) -> np.ndarray:
    files = [[run / "predictions" / "test.jsonl" for run in of_fold(place)] for place in places]
    return np.concatenate([[read_scores(file, settings.metrics[0]) for file in of] for of in files], axis=1)

  whole = round(statistics.fmean(all_rows))
  of_rows = {size: scores(lambda at, size=size: learning_curve.home(at, size, settings.seeds)) for size in smaller}
  of_rows[whole] = scores(lambda at: homes(at, settings.seeds))
  means = {size: statistics.fmean(of[size] for of in validation) for size in smaller}
  means[whole] = statistics.fmean(of[rows] for of, rows in zip(validation, all_rows, strict=True))
  tests = [homes(place, settings.seeds)[0] / "predictions" / "test.jsonl" for place in places]
  rows = [answer.row for file in tests for answer in read_predictions(file)]
  return {"sizes": curve.judge(of_rows, means, [row.lang for row in rows], [row.group for row in rows])}


def _means(records: Sequence[Mapping[str, Any]], keys: Sequence[str] | Mapping[str, Any]) -> dict[str, float]:
  """Of what is known in all."""
  known = [key for key in keys if all(record.get(key) is not None for record in records)]
  return {key: statistics.fmean(record[key] for record in records) for key in known}
