"""Metrics of one prediction against a row's targets, and their averages over languages. Scores are 0 to 100."""

from __future__ import annotations

import collections
import statistics
from collections.abc import Callable, Mapping, Sequence

from fiat_jax import prompts
from fiat_jax.errors import UserError
from fiat_jax.evaluation.code import pass_at_1
from fiat_jax.evaluation.drop import exact_match_drop, f1_drop
from fiat_jax.evaluation.normalise import normalise_multilingual, normalise_squad
from fiat_jax.evaluation.numbers import number

Metric = Callable[[str, str, str], float]  # (prediction, target, language of the row)


def f1_squad(prediction: str, target: str) -> float:
  """Multiset overlap of normalised words; 0 where nothing overlaps, also where both are empty (XTREME-UP's scorer)."""
  return _f1(normalise_squad(prediction), normalise_squad(target))


def exact_match(prediction: str, target: str) -> float:
  """Equality after SQuAD's normaliser."""
  return 100.0 * (normalise_squad(prediction) == normalise_squad(target))


def f1_multilingual(prediction: str, target: str, lang: str) -> float:
  """As `f1_squad`, after the normaliser for any language."""
  return _f1(normalise_multilingual(prediction, lang), normalise_multilingual(target, lang))


def exact_match_multilingual(prediction: str, target: str, lang: str) -> float:
  """Equality after the normaliser for any language."""
  return 100.0 * (normalise_multilingual(prediction, lang) == normalise_multilingual(target, lang))


def accuracy(prediction: str, target: str) -> float:
  """Equality of the texts themselves, outer white space aside."""
  return 100.0 * (prediction.strip() == target.strip())


def starts_with(prediction: str, target: str) -> float:
  """INSTRUCTEVAL's test of an answer (MMLU, BBH, DROP, CRASS): it begins with the target, letter by letter."""
  return 100.0 * prediction.strip().startswith(target)


def _f1(prediction: str, target: str) -> float:
  predicted, wanted = prediction.split(), target.split()
  overlap = sum((collections.Counter(predicted) & collections.Counter(wanted)).values())
  return 100.0 * 2 * overlap / (len(predicted) + len(wanted)) if overlap else 0.0


def _in_any_language(metric: Callable[[str, str], float]) -> Metric:
  return lambda prediction, target, lang: metric(prediction, target)


METRICS: Mapping[str, Metric] = {
  "exact_match": _in_any_language(exact_match),
  "f1_squad": _in_any_language(f1_squad),
  "exact_match_multilingual": exact_match_multilingual,
  "f1_multilingual": f1_multilingual,
  "accuracy": _in_any_language(accuracy),
  "starts_with": _in_any_language(starts_with),
  "exact_match_drop": _in_any_language(exact_match_drop),
  "f1_drop": _in_any_language(f1_drop),
  "number": _in_any_language(number),
  "pass_at_1": _in_any_language(pass_at_1),
}
RUNS_CODE = ("pass_at_1",)  # of the answer, whose blanks count
JUDGED = ("relevance", "coherence")  # by a big model, from 1 to 5: `judge.py`
TARGET_IS_NO_ANSWER = (*RUNS_CODE, *JUDGED)  # but what the answer is tried with, however long
POOLED = ("auc_pr",)  # of a language's rows together, from the scores of their labels: `ranking.py`


LOWER_IS_BETTER = ("loss", "perplexity")


def rank(name: str, score: float) -> float:
  """A score turned so that the higher is the better."""
  return -score if name in LOWER_IS_BETTER else score


def lacks(names: Sequence[str], *, code: bool, judge: bool) -> str:
  """What a metric needs that is not given, and how to give it; empty where nothing is lacking.

  Args:
    code: whether code that a model wrote may be run.
    judge: whether a big model that judges is named.
  """
  for name in names:
    if name in RUNS_CODE and not code:
      return (
        f"the metric {name!r} runs code that the model wrote, without network, files and processes of its own, and "
        "only where you say so: give --allow_code_execution (--gin.ALLOW_CODE_EXECUTION=True)"
      )
    if name in JUDGED and not judge:
      return f"the metric {name!r} is the judgement of a big model, which fiat evaluate asks: give --judge openai:NAME"
  return ""


def check(names: Sequence[str], labels: bool = True, code: bool = False, judge: bool = False) -> None:
  """Raises UserError for a metric that there is not, or that cannot be what it is given as.

  Args:
    labels: whether choices are scored, which the pooled ones go by.
    code, judge: as in `lacks`.
  """
  for name in names:
    if name not in (*METRICS, *POOLED, *JUDGED):
      raise UserError(f"the metric {name!r} is {prompts.nearest(name, (*METRICS, *POOLED, *JUDGED))}")
    if name in POOLED and not labels:
      raise UserError(f"the metric {name!r} goes by scores of choices: give --labels, or leave it out")
  if lacking := lacks(names, code=code, judge=judge):
    raise UserError(lacking)
  if names and names[0] in POOLED:
    raise UserError(
      f"the metric {names[0]!r} is of all rows together, and the first of --metrics of each row: put accuracy before it"
    )


def score(names: Sequence[str], prediction: str, targets: Sequence[str], lang: str = "und") -> dict[str, float]:
  """Each metric of a single row against the target that suits the prediction best."""
  wanted = [name for name in names if name in METRICS]
  return {name: max(METRICS[name](prediction, target, lang) for target in targets) for name in wanted}


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
  """The unweighted mean over languages, as XTREME-UP reports it; of a metric that a language lacks, there is none."""
  names = next(iter(languages.values()), {})
  return {
    name: statistics.fmean(scores[name] for scores in languages.values())
    for name in names
    if all(name in scores for scores in languages.values())
  }
