"""How far seeds move what recipes score, beyond what their test rows explain: what `SEED_SCATTER` is made from.

.venv/bin/python launch/seed_scatter.py runs/ladder runs/rows1024
"""

from __future__ import annotations

import pathlib
import statistics
import sys

from fiat_jax.errors import UserError
from fiat_jax.evaluation.statistics import Scored
from fiat_jax.report import results


def main() -> int:
  if not sys.argv[1:]:
    print(f"give folders of comparisons with several seeds\n\n{__doc__}", file=sys.stderr)
    return 2
  found = []
  for folder in map(pathlib.Path, sys.argv[1:]):
    try:
      comparison = results.read(folder)
    except UserError as e:
      print(f"seed_scatter: {e}", file=sys.stderr)
      return 2
    several = [result for result in comparison.results if len(result.runs) > 1]
    scores = {result.name: result.scores(comparison.metric) for result in several}
    scored = Scored(scores=scores, langs=comparison.langs, groups=comparison.groups)
    for name in scores:
      found.append(scored.seed_scatter(name))
      print(f"{folder}: {name}: {len(scores[name])} seeds, variance {found[-1]:.2f}")
  print(f"mean variance of {len(found)}: {statistics.fmean(found):.2f}" if found else "no recipe has several seeds")
  return 0


if __name__ == "__main__":
  sys.exit(main())
