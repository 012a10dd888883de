"""Rows that teach a model to find a cue in a text and to copy what stands behind it, and nothing else."""

from __future__ import annotations

import json
import pathlib
import random
import re
from collections.abc import Iterator, Sequence

CUES = ("So the answer is", "So the answer is", "The name is", "It is called")
LONGEST = 4  # words that are copied
NOTHING = "No Answer"


def write_copying_rows(path: pathlib.Path, texts: Sequence[str], count: int, sentences: int, seed: int) -> None:
  """Writes `count` rows: a cue with words behind it, in half of them behind up to so many of the texts' sentences.

  Rows without sentences teach to copy, the others to find the cue: where all have sentences, neither is learned soon.
  The words are the texts' own, numbers and ones that do not exist, so that every piece of a vocabulary is copied.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("\n".join(map(json.dumps, _rows(texts, count, sentences, random.Random(seed)))), encoding="utf-8")


def _rows(texts: Sequence[str], count: int, most: int, draw: random.Random) -> Iterator[dict[str, str]]:
  sentences = sorted({sentence for text in texts for sentence in re.split(r"(?<=[.!?]) ", text)})
  sentences = [sentence for sentence in sentences if not sentence.startswith(CUES)]
  words = sorted({word.strip(".,;:?!'\"()") for text in texts for word in text.split()} - {""})
  for number in range(count):
    copied = " ".join(_word(draw, words) for _ in range(min(draw.randint(1, LONGEST), draw.randint(1, LONGEST))))
    copied = NOTHING if draw.random() < 0.1 else copied
    before = draw.sample(sentences, min(len(sentences), draw.randint(1, most))) if draw.random() < 0.5 else []
    after = draw.sample(sentences, 1) if draw.random() < 0.1 else []
    text = " ".join([*before, f"{draw.choice(CUES)} {copied}.", *after])
    yield {"id": str(number), "input": text, "target": copied}


def _word(draw: random.Random, words: Sequence[str]) -> str:
  kind = draw.random()
  if kind < 0.4:
    return draw.choice(words)
  if kind < 0.55:
    return str(draw.randrange(10 ** draw.randint(1, 4)))
  head, tail = draw.choice(words), draw.choice(words)  # names that nobody has seen: small pieces, some of them twice
  return head[: draw.randint(1, len(head))] + tail[draw.randrange(len(tail)) :].lower()
