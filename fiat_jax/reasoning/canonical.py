"""One form for all ways of writing an answer: what has the same form is the same answer, for votes and targets alike.

An answer that is a number counts by its value, with its sign: `4` is `4.0`, `1/2` is `0.5`, `-$5` is not `5`. Thousands
separators (India's too), a currency's sign and a percent sign say nothing about the value: `12.5%` is `12.5`. Any other
text is compared as SQuAD's normaliser leaves it, but for what makes numbers in it others: `1-5 kg` is not `15 kg`.
"""

from __future__ import annotations

import string
from fractions import Fraction

import regex

from fiat_jax.evaluation.normalise import normalise_squad

LONGEST = 100  # characters of a number; longer ones are compared as text
PRIVATE = 0xE000  # where Unicode has room for marks of one's own

_PLAIN = str.maketrans({"٬": ",", "٫": ".", "−": "-", "⁄": "/", "٪": "%", "％": "%"})
_SAYS_NOTHING = regex.compile(r"\p{Sc}|%|(?<=\d),(?=(?:\d\d,)*\d{3}(?!\d))")
_TELLS = regex.compile(
  r"(?<=\d)[^\w\s]+(?=\d)|(?<=\d\s?)/(?=\s?\d)"  # between digits: a point, a hyphen, a colon, …
  r"|(?<=\de)[-+](?=\d)|(?<!\w)[-–](?=\s*\.?\d)|(?<!\w)\.(?=\d)",  # of an exponent; a sign; a point without a digit
  regex.IGNORECASE,
)
_NUMBER = regex.compile(
  r"(?P<sign>[-–])?\s*(?P<value>(?:\d+(?:\.\d+)?|\.\d+)(?:e[-+]?\d{1,3})?)(?:\s*/\s*(?P<below>\d+))?(?:\s*per ?cent)?"
)


def canonical(answer: str) -> Fraction | str:
  """The value of an answer that is a number, else its text; empty of an empty one alone."""
  text = _SAYS_NOTHING.sub("", answer.translate(_PLAIN))
  words = _shown(normalise_squad(_TELLS.sub(lambda match: "".join(map(_hidden, match[0])), text)))
  if not words:  # `A` is a choice, which the normaliser takes for an article
    words = "".join(text.lower().split()).strip(string.punctuation) or answer.strip()
  found = _value(words)
  return words if found is None else found


def _value(text: str) -> Fraction | None:
  match = _NUMBER.fullmatch(text) if len(text) <= LONGEST else None
  below = int(match["below"] or 1) if match else 0
  if not match or not below:
    return None
  found = Fraction(match["value"]) / below
  return -found if match["sign"] else found


def _hidden(mark: str) -> str:
  """A punctuation mark of ASCII as a character that the normaliser leaves alone; any other as it is."""
  return chr(PRIVATE + ord(mark)) if mark in string.punctuation else mark


def _shown(text: str) -> str:
  return "".join(chr(ord(c) - PRIVATE) if PRIVATE <= ord(c) < PRIVATE + 128 else c for c in text)
