"""Scores of many rows together: how well the positive ones stand above the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fiat_jax.errors import UserError

TRUE = "True"  # the positive label, where it is among the choices; else the first choice is


def average_precision(positive: Sequence[bool], scores: Sequence[float]) -> float:
  """The area under the precision-recall curve as a sum of steps, 0 to 1; rows of one score count together.

  What scikit-learn's `average_precision_score` gives: the sum of (R_n - R_{n-1}) P_n over falling thresholds.

  Args:
    positive: [B] which rows are positive.
    scores: [B] the higher, the likelier.

  Raises:
    ValueError: no row is positive: there is no recall.
  """
  wanted, values = np.asarray(positive, bool), np.asarray(scores, float)
  if not wanted.any():
    raise ValueError("no row is positive")
  order = np.argsort(-values, kind="stable")
  last_of_tie = np.append(np.diff(values[order]) != 0, True)
  true = np.cumsum(wanted[order])[last_of_tie]
  precision = true / (np.flatnonzero(last_of_tie) + 1)
  return float(np.sum(np.diff(true, prepend=0) * precision) / wanted.sum())


def auc_pr(choices: Sequence[Mapping[str, float] | None], targets: Sequence[Sequence[str]]) -> float | None:
  """Average precision times 100 of log P(positive) - log P(the other), as XOR-AttriQA's is computed.

  Args:
    choices: [B] the log-likelihoods of a row's two labels; None where there are none.
    targets: [B] a row's right labels.

  Returns:
    None where it is not defined: rows without label scores, or none that is positive.

  Raises:
    UserError: a row has more or fewer than two labels.
  """
  positive, scores = [], []
  for row, right in zip(choices, targets, strict=True):
    if row is None:
      return None
    if len(row) != 2:
      raise UserError(f"the metric auc_pr ranks by two labels, and a row has {len(row)}: leave it out of --metrics")
    first, second = row
    sure, other = (second, first) if second == TRUE else (first, second)
    positive.append(sure in right)
    scores.append(row[sure] - row[other])
  return 100.0 * average_precision(positive, scores) if any(positive) else None
