"""`fiat compare`: several recipes on the same rows, one table."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fiat_jax.configuration import Configuration
from fiat_jax.evaluation import report
from fiat_jax.verbs import comparison, folds, prompt_search, seeds
from fiat_jax.verbs.made import note
from fiat_jax.verbs.predictions import say_doubts


def main(configuration: Configuration) -> None:
  settings, folder = configuration.settings, configuration.settings.model_dir
  comparison.check(configuration)
  searched = prompt_search.of_compare(configuration)
  if searched is None:
    return
  configuration = searched
  compared = folds.run(configuration) if settings.folds else comparison.run(configuration)
  if compared is None:
    return
  results, found = compared.results, compared.verdict
  print(report.table(results, settings.metrics, "test"))
  print(f"\n{found.words if found else _no_verdict(results)}")
  if found:
    print(f"\n{found.costs}")
  say_doubts(results, settings.metrics, "test")
  if told := note(settings.model):
    print(f"\n{told}")
  tuned = [result["recipe"] for result in results if compared.recipes[result["recipe"]].trains]
  print(f"\n{folder}/report.html shows it; results.json and report.md hold this table")
  if settings.folds:
    print(f"{folder}/fold_0 to fold_{settings.folds - 1}: what was learned on each fold's training rows")
    return
  homes = {name: seeds.homes(pathlib.Path(folder) / name, settings.seeds) for name in tuned}
  for name, runs in homes.items():
    place = f"{folder}/{name}" if len(runs) == 1 else f"{folder}/{name}/seed_{{{','.join(map(str, settings.seeds))}}}"
    print(f"{place}: adapter/ (PEFT's format), predictions/, metrics.jsonl, config.gin")
  best = found.recipe if found else tuned[0] if len(tuned) == 1 else ""
  if best in homes:
    asked = settings.test or "new_rows.csv"
    print(f"\nNext: fiat predict --model_dir {homes[best][0]} --test {asked} --output answers.jsonl")


def _no_verdict(results: Sequence[Mapping[str, Any]]) -> str:
  if len(results) < 2:
    return "No verdict: there is one recipe, and nothing to compare it with."
  return "No verdict: the recipe is picked on validation rows. Give --validation FILE."
