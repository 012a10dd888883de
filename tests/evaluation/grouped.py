"""Drawn predictions of two recipes on grouped rows, with effects of passage, language, row, recipe and seed."""

from __future__ import annotations

import numpy as np

from fiat_jax.evaluation.statistics import Scored


def layout(groups: int, langs: int) -> tuple[list[str], list[str]]:
  """Languages and groups of rows: every passage in every language."""
  places = [(f"passage{g:03}", f"lang{n}") for g in range(groups) for n in range(langs)]
  return [lang for _, lang in places], [group for group, _ in places]


def draw(
  generator: np.random.Generator,
  langs: list[str],
  groups: list[str],
  *,
  gain: float = 0.0,
  seeds: int = 1,
  seed_effect: tuple[float, float] = (0.0, 0.0),
  own_passage: float = 0.6,
) -> Scored:
  """Scores 0 or 100 of recipes `a` and `b`: equal but for the draw, unless `gain` points are planted in `a`.

  Args:
    seed_effect: how far a seed moves a whole run of each, on the latent scale (0.3 is about 6 points).
    own_passage: how far the recipes differ by passage, on the same scale; it correlates a group's differences.
  """
  _, group = np.unique(groups, return_inverse=True)
  _, lang = np.unique(langs, return_inverse=True)
  normal = lambda scale, size: generator.normal(0, scale, size)  # noqa: E731
  rows = len(groups)
  shared = 0.5 + normal(1, group.max() + 1)[group] + normal(0.5, lang.max() + 1)[lang] + normal(1, rows)
  scores = {}
  for name, effect in zip("ab", seed_effect, strict=True):
    own = shared + normal(own_passage, group.max() + 1)[group] + normal(0.6, rows)
    moved = own + normal(effect, (seeds, 1)) + normal(0.5 if seeds > 1 else 0, (seeds, rows))
    scores[name] = 100.0 * (moved + generator.logistic(0, 0.3, (seeds, rows)) > 0)
  if gain:
    wrong = scores["a"] == 0
    share = gain / (100 * wrong.mean())  # of the wrong answers that become right
    scores["a"] = np.where(wrong & (generator.random(wrong.shape) < share), 100.0, scores["a"])
  return Scored(scores=scores, langs=langs, groups=groups, tuned="ab" if any(seed_effect) else ())
