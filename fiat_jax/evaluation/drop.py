"""DROP's own scores of an answer of one span (Dua et al., 2019, evaluation script of AllenNLP), 0 to 100."""

from __future__ import annotations

import re
import string

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(text: str) -> str:
  """Lower case, words split at hyphens too, numbers as floats with their points and signs, no other punctuation."""
  return " ".join(part for word in re.split(r"[ -]", text.lower()) if (part := _part(word)))


def exact_match_drop(prediction: str, target: str) -> float:
  return 100.0 * (normalise(prediction) == normalise(target))


def f1_drop(prediction: str, target: str) -> float:
  """F1 of the sets of words, to two decimals; 0 where the target has numbers and none of them is in the prediction."""
  predicted, wanted = set(normalise(prediction).split()), set(normalise(target).split())
  numbers = {word for word in wanted if _number(word) is not None}
  if numbers and not numbers & predicted:
    return 0.0
  common = len(predicted & wanted)
  precision = common / len(predicted) if predicted else 1.0
  recall = common / len(wanted) if wanted else 1.0
  f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
  return 100.0 * round(f1, 2)


def _part(word: str) -> str:
  number = _number(word)
  if number is None:
    word = word.translate(_PUNCTUATION)
    number = _number(word)  # "12," and "$12" are numbers without their marks
  word = word if number is None else str(number)
  return " ".join(_ARTICLES.sub(" ", word).split())


def _number(word: str) -> float | None:
  try:
    return float(word)
  except ValueError:
    return None
