"""Metrics of one prediction against a row's targets, and their averages over languages. Scores are 0 to 100."""

from __future__ import annotations

import collections
import re
import statistics
import string
from collections.abc import Callable, Mapping, Sequence

from fiat_jax import prompts
from fiat_jax.errors import UserError

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise_squad(text: str) -> str:
  """SQuAD's normaliser (Rajpurkar et al., 2016): lower case, no ASCII punctuation, no articles, single spaces."""
  text = text.lower().translate(_PUNCTUATION)
  return " ".join(_ARTICLES.sub(" ", text).split())


def f1_squad(prediction: str, target: str) -> float:
  """Multiset overlap of normalised words; 0 where nothing overlaps, also where both are empty (XTREME-UP's scorer)."""
  predicted, wanted = normalise_squad(prediction).split(), normalise_squad(target).split()
  overlap = sum((collections.Counter(predicted) & collections.Counter(wanted)).values())
  return 100.0 * 2 * overlap / (len(predicted) + len(wanted)) if overlap else 0.0


def exact_match(prediction: str, target: str) -> float:
  """Equality after SQuAD's normaliser."""
  return 100.0 * (normalise_squad(prediction) == normalise_squad(target))


def accuracy(prediction: str, target: str) -> float:
  """Equality of the texts themselves, outer white space aside."""
  return 100.0 * (prediction.strip() == target.strip())


METRICS: Mapping[str, Callable[[str, str], float]] = {
  "exact_match": exact_match,
  "f1_squad": f1_squad,
  "accuracy": accuracy,
}


LOWER_IS_BETTER = ("loss", "perplexity")


def rank(name: str, score: float) -> float:
  """A score turned so that the higher is the better."""
  return -score if name in LOWER_IS_BETTER else score


def check(names: Sequence[str]) -> None:
  """Raises UserError for a metric that there is not."""
  for name in names:
    if name not in METRICS:
      raise UserError(f"the metric {name!r} is {prompts.nearest(name, METRICS)}")


def score(names: Sequence[str], prediction: str, targets: Sequence[str]) -> dict[str, float]:
  """Each metric against the target that suits the prediction best."""
  return {name: max(METRICS[name](prediction, target) for target in targets) for name in names}


def by_language(langs: Sequence[str], scores: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
  """Mean of every metric over each language's rows, languages sorted."""
  grouped: dict[str, list[Mapping[str, float]]] = collections.defaultdict(list)
  for lang, row in zip(langs, scores, strict=True):
    grouped[lang].append(row)
  return {
    lang: {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
    for lang, rows in sorted(grouped.items())
  }


def macro_average(languages: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
  """The unweighted mean over languages, as XTREME-UP reports it."""
  names = next(iter(languages.values()), {})
  return {name: statistics.fmean(scores[name] for scores in languages.values()) for name in names}
