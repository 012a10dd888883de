"""Distilling step-by-step (Hsieh et al., 2023): each example is in a batch twice, as answer and as reasoning."""

from __future__ import annotations

from collections.abc import Sequence

from fiat_jax.data.packing import Example

ANSWERS = 0.5  # the answers' share of the loss (§3.2, with λ = 1)


def weighed(answers: Sequence[Example], explanations: Sequence[Example]) -> list[Example]:
  """All of them, weighed so that the mean over tokens is ANSWERS · CE(answers) + (1 - ANSWERS) · CE(explanations).

  Each CE is the mean over its own tokens, and the weights add up to the number of all target tokens. Without
  explanations the answers weigh 1.
  """
  counts = [sum(len(example.targets) for example in half) for half in (answers, explanations)]
  if not all(counts):
    return [*answers, *explanations]
  shares = (ANSWERS, 1 - ANSWERS)
  return [
    example._replace(weight=share * sum(counts) / count)
    for half, share, count in zip((answers, explanations), shares, counts, strict=True)
    for example in half
  ]
