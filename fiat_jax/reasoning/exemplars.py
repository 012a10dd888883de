"""Exemplars: rows with reasoning of their own, some of which are shown to the big model before each row."""

from __future__ import annotations

import collections
import dataclasses
import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from fiat_jax.data.rows import Row, read_rows
from fiat_jax.errors import UserError
from fiat_jax.reasoning.prompt import ReasoningPrompt
from fiat_jax.settings import Settings

if TYPE_CHECKING:
  from fiat_jax.reasoning.reasoner import Reasoner


@dataclasses.dataclass(frozen=True)
class Question:
  """An input to ask about: its text, its language, and the groups of all rows that have it."""

  x: str
  lang: str
  groups: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Exemplars:
  """Candidates in the order in which they are shown, best first for the row at hand."""

  candidates: Sequence[Row]
  choice: str
  alike: Callable[[str], Sequence[float]] | None = None

  def of(self, question: Question, count: int) -> list[Row]:
    """Up to `count` exemplars, never the row itself nor one of its groups."""
    allowed = [n for n, row in enumerate(self.candidates) if row.x != question.x and row.group not in question.groups]
    if self.choice == "language":
      allowed.sort(key=lambda n: self.candidates[n].lang != question.lang)
    elif self.alike:
      score = self.alike(question.x)
      allowed.sort(key=lambda n: -score[n])
    return [self.candidates[n] for n in allowed[:count]]


def load(settings: Settings) -> Exemplars | None:
  """Those that the settings name; None where none are shown.

  Raises:
    UserError: the file cannot be read, or no row in it has reasoning.
  """
  if not settings.exemplars or not settings.shots:
    return None
  files = settings.bare_files()
  if settings.exemplars == "train" and "train" not in files:
    raise UserError("--exemplars train: there are no training rows. Give --train FILE, or a file of exemplars")
  path = files["train"] if settings.exemplars == "train" else settings.exemplars
  rows = [row for row in read_rows(path, settings.layout, labelled=False) if row.reasoning]
  if not rows:
    raise UserError(f"no row has reasoning in the column {settings.reasoning!r}: an exemplar needs it", path)
  return among(rows, settings)


def longest_head(settings: Settings, reasoner: Reasoner) -> int:
  """About how many tokens stand before and behind an input: those of the prompt with the longest exemplars."""
  found = load(settings)
  size = lambda row: len(row.x) + len(row.reasoning or "")  # noqa: E731
  shots = sorted(found.candidates, key=size)[-settings.shots :] if found else ()
  return reasoner.count([ReasoningPrompt.parse(settings.reasoning_instruction).render("", shots)])[0]


def among(rows: list[Row], settings: Settings) -> Exemplars:
  """Candidates in the order that SHOT_CHOICE says."""
  if settings.shot_choice == "random":
    random.Random(settings.split_seed).shuffle(rows)
  return Exemplars(rows, settings.shot_choice, _likeness(rows) if settings.shot_choice == "nearest" else None)


def _likeness(rows: Sequence[Row]) -> Callable[[str], list[float]]:
  """Cosine of TF-IDF over words and, for scripts without blanks, pairs of characters, to each row's input."""
  counts = [collections.Counter(_features(row.x)) for row in rows]
  rows_with = collections.Counter(feature for count in counts for feature in count)

  def weighed(features: Iterable[str]) -> dict[str, float]:
    count = collections.Counter(features)
    weights = {f: n * math.log(1 + len(rows) / (1 + rows_with[f])) for f, n in count.items()}
    norm = math.sqrt(sum(weight * weight for weight in weights.values())) or 1.0
    return {feature: weight / norm for feature, weight in weights.items()}

  holding: dict[str, list[tuple[int, float]]] = collections.defaultdict(list)
  for number, row in enumerate(rows):
    for feature, weight in weighed(_features(row.x)).items():
      holding[feature].append((number, weight))

  def alike(x: str) -> list[float]:
    scores = [0.0] * len(rows)
    for feature, weight in weighed(_features(x)).items():
      for number, other in holding.get(feature, ()):
        scores[number] += weight * other
    return scores

  return alike


def _features(text: str) -> list[str]:
  words = re.findall(r"\w+", text.lower())
  return words + [word[n : n + 2] for word in words if not word.isascii() for n in range(len(word) - 1)]
